package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"vmcluster/lib/backup"
	"vmcluster/lib/errkind"
	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/vfs"
)

// snapshots makes and deletes snapshots of the node.
type snapshots interface {
	Begin(ctx context.Context, log *logger.Logger) (string, error)
	End(log *logger.Logger, name string) error
}

// options are what a manager needs.
type options struct {
	policy    policy
	dst       string       // URL of root
	root      backup.Store // of everything below it
	open      func(ctx context.Context, url string) (backup.Store, error)
	snapshots snapshots
	fs        vfs.FS
	dataPath  string
	backups   backup.Options
	now       func() time.Time
	runFirst  bool
	poll      time.Duration // between looks at the clock

	verifyInterval time.Duration // 0: never without being asked for
	tempDir        string
	budget         *memory.Budget
}

// manager makes backups, one run at a time.
type manager struct {
	options
	log   *logger.Logger
	kinds map[string]*kindMetrics
	wake  chan struct{}

	busy sync.Mutex // held by a run, and while latest is verified
	// guard is held while a backup gets or loses what protects it, and from the look at that until its mark is deleted.
	guard sync.Mutex
	mu    struct {
		sync.Mutex
		running string // name of what is being made; "" for nothing
		asked   bool   // for a backup
		hurry   bool   // without waiting after a failure
	}
	verifier verifier
	ctx      context.Context // of verifications
	cancel   context.CancelFunc

	// Of the goroutine of loop.
	settled  bool // the last run has come to its end
	failures int  // in a row
	failedAt time.Time
	latestAt time.Time // when latest was taken
}

func newManager(o options) *manager {
	m := &manager{options: o, log: o.backups.Logger, kinds: map[string]*kindMetrics{}, wake: make(chan struct{}, 1)}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.settled = !o.policy.scheduled
	m.mu.asked = o.runFirst
	set := o.backups.Metrics
	for _, kind := range append([]string{latest}, kinds()...) {
		if kind == latest || slices.Contains(o.policy.makes, kind) || o.policy.keep[kind] != keepAll {
			m.kinds[kind] = newKindMetrics(set, kind)
		}
	}
	set.Gauge("vm_backup_running", func() float64 { return number(m.running() != "") })
	set.Gauge("vm_backup_schedule_enabled", func() float64 { return number(o.policy.scheduled) })
	m.verifier.register(set)
	return m
}

func (m *manager) running() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.running
}

func (m *manager) setRunning(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.running = name
}

// ask lets a backup be made soon, unless one is being made.
func (m *manager) ask() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.running != "" {
		return errkind.New(errkind.BadRequest, "backup %s is in progress", m.mu.running)
	}
	m.mu.asked, m.mu.hurry = true, true
	select {
	case m.wake <- struct{}{}:
	default:
	}
	return nil
}

// loop makes backups until the context ends. Nobody asks for anything then any more.
func (m *manager) loop(ctx context.Context) {
	defer m.verifier.wg.Wait()
	defer m.cancel()
	for ctx.Err() == nil {
		m.step(ctx)
		select {
		case <-ctx.Done():
		case <-m.wake:
		case <-time.After(m.poll):
		}
	}
}

// step does what is due.
func (m *manager) step(ctx context.Context) {
	if m.due() {
		m.attempt(ctx)
	}
	m.verifyIfDue(ctx)
}

func (m *manager) due() bool {
	m.mu.Lock()
	asked, hurry := m.mu.asked, m.mu.hurry
	m.mu.hurry = false
	m.mu.Unlock()
	now := m.now()
	if since := now.Sub(m.failedAt); !hurry && since >= 0 && since < pause(m.failures) {
		return false
	}
	return asked || !m.settled || m.policy.scheduled && m.policy.slot(m.latestAt) != m.policy.slot(now)
}

// attempt makes one run. When it fails, the next one is made after a pause.
func (m *manager) attempt(ctx context.Context) {
	m.busy.Lock()
	defer m.busy.Unlock()
	defer m.setRunning("")
	err := m.run(ctx)
	if ctx.Err() != nil {
		return
	}
	m.settled = err == nil
	if err == nil {
		m.failures = 0
		return
	}
	m.failures++
	m.failedAt = m.now()
	m.log.Errorf("%s; it is tried again in %s", err, pause(m.failures))
}

func (m *manager) run(ctx context.Context) error {
	m.setRunning(latest)
	c, err := m.find(ctx)
	if err != nil {
		m.kinds[latest].ended(err)
		return err
	}
	m.mu.Lock()
	d := m.policy.plan(m.now(), c, m.mu.asked)
	m.mu.Unlock()
	if d.send {
		if err := m.make(ctx, c, latest, d.at); err != nil {
			return err
		}
		m.mu.Lock()
		m.mu.asked = false
		m.mu.Unlock()
	}
	m.latestAt = d.at
	for _, name := range d.copies {
		m.setRunning(name)
		err = errors.Join(err, m.make(ctx, c, name, d.at))
	}
	if ctx.Err() != nil {
		return err
	}
	return errors.Join(err, m.retain(ctx, c))
}

// find lists what there is.
func (m *manager) find(ctx context.Context) (catalog, error) {
	found, err := backup.Find(ctx, m.root, m.backups.Concurrency, nameOf)
	if err != nil {
		return nil, err
	}
	c := catalog(found)
	for kind, km := range m.kinds {
		km.successAt.setTime(c.taken(kind))
	}
	return c, nil
}

// make makes latest, or a copy of it, and enters it into the catalog.
func (m *manager) make(ctx context.Context, c catalog, name string, at time.Time) error {
	kind, _ := kindOf(name)
	start := time.Now()
	send := m.copy
	if name == latest {
		send = m.send
	}
	stats, err := send(ctx, name, at)
	if err != nil && ctx.Err() == nil {
		m.kinds[kind].ended(err)
	}
	if err != nil {
		return fmt.Errorf("cannot make backup %s: %w", name, err)
	}
	old := c[name]
	c[name] = &backup.Found{Name: name, Complete: true, CreatedAt: at.UTC().Truncate(time.Second), SizeBytes: stats.Bytes, Locked: old != nil && old.Locked}
	m.kinds[kind].ended(nil)
	m.kinds[kind].made(at, time.Since(start), stats.Bytes)
	m.log.Infof("backup %s is complete; backed up %d bytes in %.3f seconds; server-side deleted %d bytes; server-side copied %d bytes; uploaded %d bytes",
		name, stats.Bytes, time.Since(start).Seconds(), stats.Deleted, stats.Copied, stats.Moved)
	return nil
}

func (m *manager) urlOf(name string) string { return strings.TrimSuffix(m.dst, "/") + "/" + name }

// send sends a snapshot of the node.
func (m *manager) send(ctx context.Context, name string, at time.Time) (_ backup.Stats, err error) {
	r := &backup.Request{Options: m.backups, FS: m.fs, Now: at}
	if r.Dst, err = m.open(ctx, m.urlOf(name)); err != nil {
		return backup.Stats{}, err
	}
	if r.Snapshot, err = m.snapshots.Begin(ctx, m.log); err != nil {
		return backup.Stats{}, err
	}
	defer func() {
		if endErr := m.snapshots.End(m.log, r.Snapshot); endErr != nil {
			m.log.Errorf("%s", endErr) // the backup is as good as without
		}
	}()
	r.Dir = filepath.Join(m.dataPath, "snapshots", r.Snapshot)
	return backup.Backup(ctx, r)
}

// copy makes a copy of latest.
func (m *manager) copy(ctx context.Context, name string, _ time.Time) (_ backup.Stats, err error) {
	r := &backup.Request{Options: m.backups}
	if r.Dst, err = m.open(ctx, m.urlOf(name)); err != nil {
		return backup.Stats{}, err
	}
	if r.Origin, err = m.open(ctx, m.urlOf(latest)); err != nil {
		return backup.Stats{}, err
	}
	return backup.Backup(ctx, r)
}

// retain deletes what is to be kept no longer. A deletion that fails does not keep the others from being made.
func (m *manager) retain(ctx context.Context, c catalog) (err error) {
	pinned, err := m.pinned()
	if err != nil {
		return err
	}
	failed := map[string]error{}
	for _, name := range m.policy.expired(c, pinned) {
		kind, _ := kindOf(name)
		m.setRunning("retention")
		removeErr := m.remove(ctx, name)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if removeErr != nil {
			failed[kind] = errors.Join(failed[kind], removeErr)
			continue
		}
		m.kinds[kind].deleted.Inc()
		m.log.Infof("deleted backup %s, which is to be kept no longer", name)
	}
	for kind, kindErr := range failed {
		m.kinds[kind].ended(kindErr)
		err = errors.Join(err, kindErr)
	}
	return err
}

// pinned returns the names of backups which somebody needs.
func (m *manager) pinned() ([]string, error) {
	marked, err := readMark(m.fs, m.dataPath)
	if err != nil {
		return nil, fmt.Errorf("cannot tell which backups may be deleted: %w", err)
	}
	return []string{strings.TrimPrefix(marked, m.urlOf("")), m.verifier.current()}, nil
}

// remove deletes a backup, unless it has just been locked, asked for by a restore or taken to be verified.
func (m *manager) remove(ctx context.Context, name string) error {
	s, err := m.open(ctx, m.urlOf(name))
	if err != nil {
		return err
	}
	m.guard.Lock()
	begun := sync.OnceFunc(m.guard.Unlock)
	defer begun()
	pinned, err := m.pinned()
	if err != nil {
		return err
	}
	if slices.Contains(pinned, name) {
		return errkind.New(errkind.Unavailable, "cannot delete backup %s: it is needed just now", name)
	}
	return backup.Remove(ctx, s, m.backups.Concurrency, begun)
}

// lookup returns a backup by its name, which must be whole.
func (m *manager) lookup(ctx context.Context, name string) (*backup.Found, error) {
	if _, ok := kindOf(name); !ok {
		return nil, errkind.New(errkind.BadRequest, "%q is not the name of a backup, such as latest or daily/2026-11-22", name)
	}
	c, err := m.find(ctx)
	if err != nil {
		return nil, err
	}
	if !c.whole(name) {
		return nil, errkind.New(errkind.NotFound, "there is no whole backup %q at %s", name, m.root)
	}
	return c[name], nil
}

// lock protects a backup from retention, or no longer.
func (m *manager) lock(ctx context.Context, name string, locked bool) (*backup.Found, error) {
	if name == latest {
		return nil, errkind.New(errkind.BadRequest, "cannot lock latest: each run replaces it; lock a copy of it, such as %s", m.policy.name(daily, m.now()))
	}
	m.guard.Lock()
	defer m.guard.Unlock()
	found, err := m.lookup(ctx, name)
	if err != nil {
		return nil, err
	}
	s, err := m.open(ctx, m.urlOf(name))
	if err != nil {
		return nil, err
	}
	if err := backup.Lock(ctx, s, locked); err != nil {
		return nil, err
	}
	found.Locked = locked
	m.log.Infof("backup %s is locked: %v", name, locked)
	return found, nil
}

// mark asks for a restore at the next start.
func (m *manager) mark(ctx context.Context, name string) error {
	if err := checkRestorable(name); err != nil {
		return err
	}
	m.guard.Lock()
	defer m.guard.Unlock()
	if !strings.Contains(name, "://") {
		if _, err := m.lookup(ctx, name); err != nil {
			return err
		}
	} else if s, err := m.open(ctx, name); err != nil {
		return errkind.New(errkind.BadRequest, "%w", err)
	} else if _, err := backup.ReadList(ctx, s, false); err != nil {
		return err
	}
	if err := writeMark(m.fs, m.dataPath, name); err != nil {
		return err
	}
	m.log.Infof("backup %s will be restored by vmbackupmanager restore", name)
	return nil
}
