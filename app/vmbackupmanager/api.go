package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"vmcluster/lib/backup"
	"vmcluster/lib/errkind"
	"vmcluster/lib/flagvalue"
	"vmcluster/lib/httpserver"
)

const (
	backupsPath  = "/api/v1/backups"
	restorePath  = "/api/v1/restore"
	verifySuffix = "/verify"
	authKeyFlag  = "backupsAuthKey"
)

// row is a backup as the API shows it.
type row struct {
	Name      string `json:"name"`
	SizeBytes int64  `json:"size_bytes"`
	Size      string `json:"size"`
	CreatedAt string `json:"created_at,omitempty"` // RFC 3339; not known of what is not whole
	Locked    bool   `json:"locked"`
	State     string `json:"state"` // complete or incomplete
}

func rowOf(f *backup.Found) row {
	r := row{Name: f.Name, SizeBytes: f.SizeBytes, Size: sizeText(f.SizeBytes), Locked: f.Locked, State: "incomplete"}
	if f.Complete {
		r.State, r.CreatedAt = "complete", f.CreatedAt.UTC().Format(time.RFC3339)
	}
	return r
}

// sizeText returns a size for people, such as 456.1ki.
func sizeText(n int64) string {
	size, units := float64(n), []string{"", "ki", "Mi", "Gi", "Ti", "Pi"}
	i := 0
	for ; size >= 1024 && i < len(units)-1; i++ {
		size /= 1024
	}
	if i == 0 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%.1f%s", size, units[i])
}

// api answers requests about the backups of a manager.
type api struct {
	m       *manager
	authKey flagvalue.Secret
}

// hasKey reports whether a path is protected by the key.
func (a *api) hasKey(path string) bool {
	return a.authKey.Get() != "" && (path == restorePath || path == backupsPath || strings.HasPrefix(path, backupsPath+"/"))
}

// handle answers a request, or returns false when the path is none of its own.
func (a *api) handle(w http.ResponseWriter, r *http.Request) bool {
	name, named := strings.CutPrefix(r.URL.Path, backupsPath+"/")
	if !named && r.URL.Path != backupsPath && r.URL.Path != restorePath {
		return false
	}
	if !httpserver.CheckAuthKey(w, r, authKeyFlag, a.authKey) {
		return true
	}
	name, verify := strings.CutSuffix(name, verifySuffix)
	serve := map[string]func(r *http.Request, name string) (any, error){}
	switch {
	case verify:
		serve[http.MethodPost], serve[http.MethodGet] = a.verify, a.verified
	case named:
		serve[http.MethodPut] = a.lock
	case r.URL.Path == restorePath:
		serve[http.MethodPost], serve[http.MethodGet], serve[http.MethodDelete] = a.mark, a.marked, a.unmark
	default:
		serve[http.MethodPost], serve[http.MethodGet] = a.create, a.list
	}
	do := serve[r.Method]
	if do == nil {
		a.fail(w, r, errkind.New(errkind.MethodNotAllowed, "cannot %s %s", r.Method, r.URL.Path))
		return true
	}
	answer, err := do(r, name)
	if err != nil {
		a.fail(w, r, err)
		return true
	}
	status := http.StatusOK
	if r.Method == http.MethodPost && r.URL.Path != restorePath {
		status = http.StatusCreated
	}
	a.answer(w, status, answer)
	return true
}

func (a *api) fail(w http.ResponseWriter, r *http.Request, err error) {
	a.m.log.Warnf("remoteAddr: %q; requestURI: %s; %s", r.RemoteAddr, httpserver.LoggedURI(r), err)
	a.answer(w, errkind.Of(err).HTTPStatus(), map[string]string{"error": err.Error()})
}

func (a *api) answer(w http.ResponseWriter, status int, answer any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		a.m.log.Warnf("cannot send an answer: %s", err)
	}
}

// empty is the answer which says no more than that all is well.
type empty struct{}

func (a *api) create(*http.Request, string) (any, error) { return empty{}, a.m.ask() }

func (a *api) list(r *http.Request, _ string) (any, error) {
	c, err := a.m.find(r.Context())
	if err != nil {
		return nil, err
	}
	rows := []row{}
	for _, f := range c {
		rows = append(rows, rowOf(f))
	}
	slices.SortFunc(rows, func(a, b row) int { return strings.Compare(a.Name, b.Name) })
	return rows, nil
}

func (a *api) lock(r *http.Request, name string) (any, error) {
	var body struct {
		Locked *bool `json:"locked"`
	}
	if err := readBody(r, &body); err != nil {
		return nil, err
	}
	if body.Locked == nil {
		return nil, errkind.New(errkind.BadRequest, `cannot tell whether to lock: want a body such as {"locked":true}`)
	}
	f, err := a.m.lock(r.Context(), name, *body.Locked)
	if err != nil {
		return nil, err
	}
	return rowOf(f), nil
}

func (a *api) verify(r *http.Request, name string) (any, error) {
	return empty{}, a.m.verify(r.Context(), name)
}

func (a *api) verified(_ *http.Request, name string) (any, error) { return a.m.verifier.result(name) }

func (a *api) mark(r *http.Request, _ string) (any, error) {
	var body restoreMark
	if err := readBody(r, &body); err != nil {
		return nil, err
	}
	return restoreMark{Backup: body.Backup}, a.m.mark(r.Context(), body.Backup)
}

func (a *api) marked(*http.Request, string) (any, error) {
	name, err := readMark(a.m.fs, a.m.dataPath)
	if err == nil && name == "" {
		err = errkind.New(errkind.NotFound, "no restore is asked for")
	}
	return restoreMark{Backup: name}, err
}

func (a *api) unmark(*http.Request, string) (any, error) {
	a.m.guard.Lock()
	defer a.m.guard.Unlock()
	return empty{}, deleteMark(a.m.fs, a.m.dataPath)
}

const maxBody = 64 << 10

func readBody(r *http.Request, to any) error {
	data, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err == nil {
		err = json.Unmarshal(data, to)
	}
	if err != nil {
		return errkind.New(errkind.BadRequest, "cannot read the body: %w", err)
	}
	return nil
}
