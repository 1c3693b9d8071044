package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"vmcluster/lib/backup"
	"vmcluster/lib/errkind"
	"vmcluster/lib/metrics"
)

// verifiedKey is the object below -dst that tells when a backup has been verified last.
const verifiedKey = "verified.ignore"

// verification is how one has gone, for the API and, in an object, for the next process.
type verification struct {
	Name   string    `json:"name"`
	State  string    `json:"state"` // running, ok or failed
	Error  string    `json:"error,omitempty"`
	At     time.Time `json:"checked_at"`
	Files  int       `json:"files,omitempty"`
	Bytes  int64     `json:"size_bytes,omitempty"`
	Parts  int       `json:"parts,omitempty"`
	Rows   int64     `json:"rows,omitempty"`
	Series int64     `json:"series,omitempty"`
}

const (
	stateRunning = "running"
	stateOK      = "ok"
	stateFailed  = "failed"
)

// verifier verifies one backup at a time, beside the runs.
type verifier struct {
	wg sync.WaitGroup
	mu struct {
		sync.Mutex
		last  verification
		known bool      // when it was done last, or tried
		tried time.Time // it is due an interval later
	}
	errors    *metrics.Counter
	failed    atomic.Bool
	successAt gauge
	duration  gauge
}

func (v *verifier) register(set *metrics.Set) {
	v.errors = set.Counter("vm_backup_verify_errors_total")
	set.Gauge("vm_backup_last_verify_failed", func() float64 { return number(v.failed.Load()) })
	set.Gauge("vm_backup_last_verify_success_at", v.successAt.value)
	set.Gauge("vm_backup_last_verify_duration_seconds", v.duration.value)
}

// current returns the name of what is being verified, "" for nothing.
func (v *verifier) current() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.mu.last.State == stateRunning {
		return v.mu.last.Name
	}
	return ""
}

// result returns how the last verification of a backup has gone, or how far it is.
func (v *verifier) result(name string) (verification, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.mu.last.Name != name {
		return verification{}, errkind.New(errkind.NotFound, "backup %q has not been verified by this process, or another one has since", name)
	}
	return v.mu.last, nil
}

// begin takes a backup to be verified.
func (v *verifier) begin(name string, now time.Time) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.mu.last.State == stateRunning {
		return errkind.New(errkind.BadRequest, "verification of backup %s is in progress", v.mu.last.Name)
	}
	v.mu.last = verification{Name: name, State: stateRunning, At: now}
	v.mu.tried = now
	return nil
}

// verify begins to verify a whole backup.
func (m *manager) verify(ctx context.Context, name string) error {
	m.guard.Lock()
	defer m.guard.Unlock()
	if _, err := m.lookup(ctx, name); err != nil {
		return err
	}
	if err := m.verifier.begin(name, m.now().UTC()); err != nil {
		return err
	}
	m.verifier.wg.Go(func() { m.verifyNow(m.ctx, name) })
	return nil
}

func (m *manager) verifyNow(ctx context.Context, name string) {
	if name == latest { // which the runs change
		m.busy.Lock()
		defer m.busy.Unlock()
	}
	start := time.Now()
	var found backup.Verified
	s, err := m.open(ctx, m.urlOf(name))
	if err == nil {
		found, err = backup.Verify(ctx, &backup.Verification{Options: m.backups, Src: s, FS: m.fs, TempDir: m.tempDir, Budget: m.budget})
	}
	v := verification{Name: name, State: stateOK, At: m.now().UTC(), Files: found.Files, Bytes: found.Bytes, Parts: found.Parts, Rows: found.Rows, Series: found.Series}
	if err != nil {
		v.State, v.Error = stateFailed, err.Error()
	}
	if ctx.Err() == nil {
		m.note(ctx, &v, time.Since(start))
	}
	m.verifier.mu.Lock()
	defer m.verifier.mu.Unlock()
	m.verifier.mu.last = v
	if err != nil { // perhaps the network: not after a whole interval only
		m.verifier.mu.tried = v.At.Add(min(m.verifyInterval, verifyPause) - m.verifyInterval)
	}
}

// verifyPause is how long a scheduled verification waits at most after one that has failed.
const verifyPause = time.Hour

// note tells of the end of a verification: in the log, in metrics, and to later processes.
func (m *manager) note(ctx context.Context, v *verification, took time.Duration) {
	m.verifier.failed.Store(v.State == stateFailed)
	if v.State == stateFailed {
		m.log.Errorf("cannot verify backup %s: %s", v.Name, v.Error)
		m.verifier.errors.Inc()
		return
	}
	m.log.Infof("verified backup %s in %.3f seconds: %d files with %d bytes, %d parts with %d rows and %d series are as they should be",
		v.Name, took.Seconds(), v.Files, v.Bytes, v.Parts, v.Rows, v.Series)
	m.verifier.successAt.setTime(v.At)
	m.verifier.duration.set(took.Seconds())
	if err := m.saveVerified(ctx, v); err != nil {
		m.log.Warnf("cannot take note of when backup %s was verified: %s", v.Name, err)
	}
}

func (m *manager) saveVerified(ctx context.Context, v *verification) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return m.root.Put(ctx, verifiedKey, bytes.NewReader(data), int64(len(data)))
}

// lastVerified returns when a backup has been verified last, also by an earlier process.
func (m *manager) lastVerified(ctx context.Context) (_ time.Time, err error) {
	r, err := m.root.Get(ctx, verifiedKey)
	if errkind.Of(err) == errkind.NotFound {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	data, err := io.ReadAll(io.LimitReader(r, 64<<10))
	if err != nil {
		return time.Time{}, err
	}
	var v verification
	if json.Unmarshal(data, &v) != nil {
		return time.Time{}, nil // then it is verified again
	}
	return v.At, nil
}

// verifyIfDue begins a verification when the interval since the last one is over. A whole copy is taken rather than latest, during whose verification
// no run can be made.
func (m *manager) verifyIfDue(ctx context.Context) {
	if m.verifyInterval <= 0 || !m.settled || m.verifier.current() != "" {
		return
	}
	v := &m.verifier
	if !v.mu.known { // only this goroutine uses it
		at, err := m.lastVerified(ctx)
		if err != nil {
			return // the next look tells
		}
		v.mu.Lock()
		v.mu.known, v.mu.tried = true, at
		v.mu.Unlock()
		v.successAt.setTime(at)
	}
	v.mu.Lock()
	tried := v.mu.tried
	v.mu.Unlock()
	if since := m.now().Sub(tried); since >= 0 && since < m.verifyInterval {
		return
	}
	c, err := m.find(ctx)
	if err != nil {
		return
	}
	if name := newest(c); name != "" {
		if err := m.verify(ctx, name); err != nil {
			m.log.Warnf("cannot begin to verify backup %s: %s", name, err)
		}
	}
}

// newest returns the newest whole copy, or latest without one.
func newest(c catalog) (name string) {
	for n, f := range c {
		switch {
		case !f.Complete || n == latest:
		case name == "" || f.CreatedAt.After(c[name].CreatedAt), f.CreatedAt.Equal(c[name].CreatedAt) && n < name:
			name = n
		}
	}
	if name == "" && c.whole(latest) {
		name = latest
	}
	return name
}
