package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmcluster/app/internal/backuptool"
	"vmcluster/lib/flagvalue"
	"vmcluster/lib/vfs"
)

// call sends a request to the API and returns its answer as one text.
func call(a *api, method, target, body string) string {
	w := httptest.NewRecorder()
	if !a.handle(w, httptest.NewRequest(method, target, strings.NewReader(body))) {
		return "not handled"
	}
	return fmt.Sprint(w.Code, " ", strings.TrimSpace(w.Body.String()))
}

func TestAPI(t *testing.T) {
	w := newWorld(t, rand.New(rand.NewPCG(6, 6)), policy{makes: []string{daily}, keep: map[string]int{hourly: -1, daily: -1, weekly: -1, monthly: -1}, zone: time.UTC, scheduled: true})
	w.clock = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	w.start()
	a := &api{m: w.m}
	if got := call(a, "GET", "/api/v1/backups", ""); got != "200 []" {
		t.Errorf("got %s", got)
	}
	if got := call(a, "POST", "/api/v1/backups", ""); got != "201 {}" {
		t.Errorf("got %s", got)
	}
	w.m.step(t.Context())
	w.b.objects["weekly/2026-40/data/x/"+strings.Repeat("a", 32)+"_0000000000000000_0000000000000005"] = "12345" // begun and not ended
	for _, tc := range []struct{ method, path, body, want string }{
		{"GET", "/api/v1/backups", "", `200 [{"name":"daily/2026-11-01","size_bytes":16,"size":"16","created_at":"2026-11-01T12:00:00Z","locked":false,"state":"complete"},` +
			`{"name":"latest","size_bytes":16,"size":"16","created_at":"2026-11-01T12:00:00Z","locked":false,"state":"complete"},` +
			`{"name":"weekly/2026-40","size_bytes":5,"size":"5","locked":false,"state":"incomplete"}]`},
		{"PUT", "/api/v1/backups/daily/2026-11-01", `{"locked":true}`, `200 {"name":"daily/2026-11-01","size_bytes":16,"size":"16","created_at":"2026-11-01T12:00:00Z","locked":true,"state":"complete"}`},
		{"PUT", "/api/v1/backups/daily/2026-11-01", `{}`, `400 {"error":"cannot tell whether to lock: want a body such as {\"locked\":true}"}`},
		{"PUT", "/api/v1/backups/daily/2026-11-02", `{"locked":true}`, `400 {"error":"there is no whole backup \"daily/2026-11-02\" at mem://bucket/node/"}`},
		{"PUT", "/api/v1/backups/weekly/2026-40", `{"locked":true}`, `400 {"error":"there is no whole backup \"weekly/2026-40\" at mem://bucket/node/"}`},
		{"PUT", "/api/v1/backups/latest", `{"locked":true}`, `400 {"error":"cannot lock latest: each run replaces it; lock a copy of it, such as daily/2026-11-01"}`},
		{"PUT", "/api/v1/backups/../x", `{"locked":true}`, `400 {"error":"\"../x\" is not the name of a backup, such as latest or daily/2026-11-22"}`},
		{"GET", "/api/v1/restore", "", `400 {"error":"no restore is asked for"}`},
		{"POST", "/api/v1/restore", `{"backup":"daily/2026-11-02"}`, `400 {"error":"there is no whole backup \"daily/2026-11-02\" at mem://bucket/node/"}`},
		{"POST", "/api/v1/restore", `{"backup":"mem://bucket/node/daily/2026-11-01"}`, `200 {"backup":"mem://bucket/node/daily/2026-11-01"}`},
		{"GET", "/api/v1/restore", "", `200 {"backup":"mem://bucket/node/daily/2026-11-01"}`},
		{"DELETE", "/api/v1/restore", "", `200 {}`},
		{"DELETE", "/api/v1/restore", "", `200 {}`},
		{"POST", "/api/v1/restore", `{"backup":"mem://other/x"}`, `400 {"error":"another bucket"}`},
		{"POST", "/api/v1/restore", `x`, `400 {"error":"cannot read the body: invalid character 'x' looking for beginning of value"}`},
		{"PATCH", "/api/v1/restore", ``, `405 {"error":"cannot PATCH /api/v1/restore"}`},
		{"GET", "/api/v1/backups/latest/verify", ``, `400 {"error":"backup \"latest\" has not been verified by this process, or another one has since"}`},
		{"GET", "/api/v1/other", ``, `not handled`},
	} {
		if got := call(a, tc.method, tc.path, tc.body); got != tc.want {
			t.Errorf("%s %s: got %s\nwant %s", tc.method, tc.path, got, tc.want)
		}
	}
	a.authKey = flagvalue.NewSecret("key")
	if got := call(a, "GET", "/api/v1/backups", ""); !strings.HasPrefix(got, "401") {
		t.Errorf("without a key: %s", got)
	}
	if got := call(a, "GET", "/api/v1/backups?authKey=key", ""); !strings.HasPrefix(got, "200") || !a.hasKey("/api/v1/backups/x") || a.hasKey("/metrics") {
		t.Errorf("with a key: %s", got)
	}
}

// TestVerifyOnSchedule: copies rather than latest, not again within the interval, also by another process, and failures are told.
func TestVerifyOnSchedule(t *testing.T) {
	w := newWorld(t, rand.New(rand.NewPCG(7, 7)), policy{makes: []string{daily}, keep: map[string]int{hourly: -1, daily: -1, weekly: -1, monthly: -1}, zone: time.UTC, scheduled: true})
	w.clock = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	step := func() {
		w.m.verifyInterval = 24 * time.Hour
		w.m.step(t.Context())
		w.m.verifier.wg.Wait()
	}
	w.start()
	step()
	if v, err := w.m.verifier.result("daily/2026-11-01"); err != nil || v.State != stateOK || v.Files != 2 || w.b.objects[verifiedKey] == "" {
		t.Fatalf("got %+v, %v", v, err)
	}
	if entries, err := w.disk.ReadDir("/tmp"); err != nil || len(entries) > 0 {
		t.Errorf("the copy is left: %v, %v", entries, err)
	}
	w.start()
	w.clock = w.clock.Add(23 * time.Hour)
	step()
	if _, err := w.m.verifier.result("daily/2026-11-02"); err == nil {
		t.Error("verified before the interval is over")
	}
	for key := range w.b.objects {
		if strings.HasPrefix(key, "daily/2026-11-02/data/") {
			w.b.objects[key] = strings.Repeat("x", len(w.b.objects[key]))
		}
	}
	w.clock = w.clock.Add(time.Hour)
	step()
	v, err := w.m.verifier.result("daily/2026-11-02")
	if err != nil || v.State != stateFailed || !strings.Contains(v.Error, "the backup is damaged") {
		t.Errorf("got %+v, %v", v, err)
	}
	w.wantMetrics("vm_backup_verify_errors_total 1", "vm_backup_last_verify_failed 1")
	w.clock = w.clock.Add(verifyPause)
	step()
	w.wantMetrics("vm_backup_verify_errors_total 2")
}

// TestVerifyLatest: the backup that runs change is verified between them.
func TestVerifyLatest(t *testing.T) {
	w := newWorld(t, rand.New(rand.NewPCG(8, 8)), policy{keep: map[string]int{hourly: -1, daily: -1, weekly: -1, monthly: -1}, zone: time.UTC, scheduled: true})
	w.clock = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	w.start()
	w.m.step(t.Context())
	a := &api{m: w.m}
	if got := call(a, http.MethodPost, "/api/v1/backups/latest/verify", ""); got != "201 {}" {
		t.Fatalf("got %s", got)
	}
	w.m.verifier.wg.Wait()
	if got := call(a, http.MethodGet, "/api/v1/backups/latest/verify", ""); got != `200 {"name":"latest","state":"ok","checked_at":"2026-11-01T12:00:00Z","files":2,"size_bytes":16}` {
		t.Errorf("got %s", got)
	}
	if err := w.m.verifier.begin(latest, w.clock); err != nil {
		t.Fatal(err)
	}
	if got := call(a, http.MethodPost, "/api/v1/backups/latest/verify", ""); got != `400 {"error":"verification of backup latest is in progress"}` {
		t.Errorf("got %s", got)
	}
}

func TestMark(t *testing.T) {
	dir := t.TempDir()
	for _, want := range []string{"", latest, "s3://bucket/x"} {
		if want != "" {
			if err := writeMark(vfs.OS(), dir, want); err != nil {
				t.Fatal(err)
			}
		}
		if name, err := readMark(vfs.OS(), dir); err != nil || name != want {
			t.Errorf("got %q, %v; want %q", name, err, want)
		}
	}
	if err := vfs.WriteFileDurable(vfs.OS(), filepath.Join(dir, markName), []byte(`{"version":2}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := readMark(vfs.OS(), dir); err == nil || !strings.Contains(err.Error(), "it has version 2") {
		t.Errorf("got %v", err)
	}
}

func TestPolicyOfFlags(t *testing.T) {
	for want, c := range map[string]*component{
		"want a name such as UTC": {zone: "Paris"},
		"want whole seconds":      {zone: "UTC", interval: 1500},
		"cannot keep -2 daily":    {zone: "UTC"},
	} {
		off := false
		c.disabled, c.keep, c.snapshots = map[string]*bool{}, map[string]*int{}, backuptool.Snapshots{}
		for _, kind := range kinds() {
			n := keepAll
			c.disabled[kind], c.keep[kind] = &off, &n
		}
		*c.keep[daily] = -2
		if _, err := c.policy(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v; want %s", err, want)
		}
		*c.keep[daily] = 0
	}
}
