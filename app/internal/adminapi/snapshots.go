package adminapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/httpserver"
)

// snapshotAnswer is the answer of the snapshot routes.
type snapshotAnswer struct {
	Status    string    `json:"status"`
	Msg       string    `json:"msg,omitempty"`
	Snapshot  string    `json:"snapshot,omitempty"`
	Snapshots *[]string `json:"snapshots,omitempty"` // nil: not asked for
}

// snapshotPaths returns the routes about snapshots.
func (a *API) snapshotPaths() map[string]func(r *http.Request) (any, error) {
	return map[string]func(r *http.Request) (any, error){
		"/snapshot/create":            a.createSnapshot,
		"/snapshot/list":              a.listSnapshots,
		"/snapshot/delete":            a.deleteSnapshot,
		"/snapshot/delete_all":        a.deleteSnapshots,
		"/api/v1/admin/tsdb/snapshot": a.promSnapshot,
	}
}

func (a *API) createSnapshot(r *http.Request) (any, error) {
	name, err := a.o.Maintenance.CreateSnapshot(r.Context())
	return &snapshotAnswer{Status: "ok", Snapshot: name}, err
}

// promSnapshot is createSnapshot with the answer that tools for Prometheus expect.
func (a *API) promSnapshot(r *http.Request) (any, error) {
	name, err := a.o.Maintenance.CreateSnapshot(r.Context())
	var out struct {
		Status string `json:"status"`
		Data   struct {
			Name string `json:"name"`
		} `json:"data"`
	}
	out.Status, out.Data.Name = "success", name
	return &out, err
}

func (a *API) listSnapshots(r *http.Request) (any, error) {
	names, err := a.o.Maintenance.Snapshots(r.Context())
	if names == nil {
		names = []string{}
	}
	return &snapshotAnswer{Status: "ok", Snapshots: &names}, err
}

func (a *API) deleteSnapshot(r *http.Request) (any, error) {
	return &snapshotAnswer{Status: "ok"}, a.o.Maintenance.DeleteSnapshot(r.Context(), r.FormValue("snapshot"))
}

func (a *API) deleteSnapshots(r *http.Request) (any, error) {
	names, err := a.o.Maintenance.Snapshots(r.Context())
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, name := range names {
		if err := a.o.Maintenance.DeleteSnapshot(r.Context(), name); errkind.Of(err) != errkind.NotFound { // somebody else may be at it
			errs = append(errs, err)
		}
	}
	return &snapshotAnswer{Status: "ok"}, errors.Join(errs...)
}

// logNewSeries turns on the logging of new series for a while.
func (a *API) logNewSeries(r *http.Request) (any, error) {
	seconds := 60
	if s := r.FormValue("seconds"); s != "" {
		var err error
		if seconds, err = strconv.Atoi(s); err != nil {
			return nil, fmt.Errorf("cannot parse `seconds` arg %q: %w", s, err)
		}
	}
	if seconds < 0 || seconds > 365*24*3600 {
		return nil, fmt.Errorf("cannot log new series for %d seconds: choose between 0 and a year", seconds)
	}
	until := a.o.Maintenance.LogNewSeries(time.Duration(seconds) * time.Second)
	var out struct {
		Status string `json:"status"`
		Data   struct {
			LogEndTime string `json:"logEndTime"`
		} `json:"data"`
	}
	out.Status, out.Data.LogEndTime = "success", until.UTC().Truncate(time.Second).Format("2006-01-02 15:04:05 -0700 MST")
	return &out, nil
}

// answer writes the JSON answer of a route. Failures are all answered 500, as those who call these routes expect.
func (a *API) answer(w http.ResponseWriter, r *http.Request, serve func(r *http.Request) (any, error)) {
	body, err := serve(r)
	status := http.StatusOK
	if err != nil {
		a.errors[r.URL.Path].Inc()
		a.o.Logger.Errorf("remoteAddr: %q; requestURI: %s; %s", r.RemoteAddr, httpserver.LoggedURI(r), err)
		body, status = &snapshotAnswer{Status: "error", Msg: err.Error()}, http.StatusInternalServerError
	}
	text, err := json.Marshal(body)
	if err != nil {
		httpserver.Error(w, r, a.o.Logger, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(text) // a client that went away cannot be told
}
