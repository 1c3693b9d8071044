package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/vfs"
)

const (
	snapshotsName = "snapshots"
	// snapshotTime is the first part of a snapshot's name; a dash and 16 upper-case hexadecimal digits follow.
	snapshotTime = "20060102150405"
	// goingSuffix marks a snapshot which is being made or deleted. The next open deletes it.
	goingSuffix = ".tmp"
	// snapshotAgeInterval is the time between looks at the age of snapshots.
	snapshotAgeInterval = time.Minute
)

func (s *Storage) snapshotsDir() string            { return filepath.Join(s.cfg.DataPath, snapshotsName) }
func (s *Storage) snapshotDir(name string) string  { return filepath.Join(s.snapshotsDir(), name) }
func (s *Storage) snapshotTemp(name string) string { return s.snapshotDir(name) + goingSuffix }

// parseSnapshotName returns when a snapshot was made; false when it is not the name of one.
func parseSnapshotName(name string) (time.Time, bool) {
	date, id, ok := strings.Cut(name, "-")
	if !ok || len(id) != 16 || strings.Trim(id, "0123456789ABCDEF") != "" {
		return time.Time{}, false
	}
	t, err := time.ParseInLocation(snapshotTime, date, time.UTC)
	return t, err == nil && len(date) == len(snapshotTime)
}

// openSnapshots deletes what was being made or deleted when the process ended.
func (s *Storage) openSnapshots() error {
	s.snapshotSeq.Store(uint64(s.o.Now().UnixNano()))
	entries, err := s.snapshotEntries()
	if err != nil {
		return err
	}
	for _, e := range entries {
		name, going := strings.CutSuffix(e.Name, goingSuffix)
		if _, ok := parseSnapshotName(name); !ok || !going {
			continue
		}
		if err := s.fs.RemoveAll(s.snapshotDir(e.Name)); err != nil {
			return err
		}
	}
	return nil
}

// snapshotEntries lists the directory of snapshots, which need not exist.
func (s *Storage) snapshotEntries() ([]vfs.Entry, error) {
	entries, err := s.fs.ReadDir(s.snapshotsDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return entries, err
}

// CreateSnapshot implements storageapi.Maintenance.
//
// The instant which the snapshot shows is that of the freeze at the start of its flush: no later flush
// publishes parts, since flushing is held until all files are linked. Merges meanwhile change no answer, and the files of
// parts they replace stay as long as the snapshot refers to them.
func (s *Storage) CreateSnapshot(ctx context.Context) (string, error) {
	if err := s.enter(); err != nil {
		return "", err
	}
	defer s.leave()
	s.flushing.Lock()
	defer s.flushing.Unlock()
	start := time.Now()
	if err := s.flushTimed(ctx); err != nil {
		return "", fmt.Errorf("cannot flush storage %q for a snapshot: %w", s.cfg.DataPath, err)
	}
	name, err := s.newSnapshotName()
	if err != nil {
		return "", err
	}
	if err := s.linkSnapshot(ctx, name); err != nil {
		err = fmt.Errorf("cannot create snapshot %s of storage %q: %w", name, s.cfg.DataPath, err)
		return "", errors.Join(err, s.fs.RemoveAll(s.snapshotTemp(name)))
	}
	s.logger.Infof("created snapshot %q in %.3f seconds", s.snapshotDir(name), time.Since(start).Seconds())
	return name, nil
}

// newSnapshotName returns a name which no snapshot has. The number begins with the time of the start, so only a clock that was set back
// makes one come again.
func (s *Storage) newSnapshotName() (string, error) {
	entries, err := s.snapshotEntries()
	if err != nil {
		return "", fmt.Errorf("cannot create a snapshot of storage %q: %w", s.cfg.DataPath, err)
	}
	for {
		name := fmt.Sprintf("%s-%016X", s.o.Now().UTC().Format(snapshotTime), s.snapshotSeq.Add(1))
		if !slices.ContainsFunc(entries, func(e vfs.Entry) bool { return strings.TrimSuffix(e.Name, goingSuffix) == name }) {
			return name, nil
		}
	}
}

// linkSnapshot links the files of all partitions. The caller holds flushing.
func (s *Storage) linkSnapshot(ctx context.Context, name string) (err error) {
	if err := vfs.MkdirAllDurable(s.fs, s.snapshotsDir()); err != nil {
		return err
	}
	tmp := s.snapshotTemp(name)
	data := filepath.Join(tmp, dataName)
	if err := s.fs.MkdirAll(data); err != nil {
		return err
	}
	partitions := s.acquire(allTime())
	defer func() { err = errors.Join(err, release(partitions)) }()
	for _, p := range partitions {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := p.Snapshot(filepath.Join(data, p.Month().String())); err != nil {
			return err
		}
	}
	if err := s.exemplars.Snapshot(filepath.Join(data, exemplarsName)); err != nil {
		return err
	}
	for _, dir := range []string{data, tmp} {
		if err := s.fs.SyncDir(dir); err != nil {
			return err
		}
	}
	if err := s.fs.Rename(tmp, s.snapshotDir(name)); err != nil {
		return err
	}
	if err := s.fs.SyncDir(s.snapshotsDir()); err != nil {
		// Nobody is told of it, so it must not stay and keep the disk full.
		return errors.Join(err, s.fs.RemoveAll(s.snapshotDir(name)))
	}
	return nil
}

// Snapshots implements storageapi.Maintenance.
func (s *Storage) Snapshots(context.Context) ([]string, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	return s.snapshotNames()
}

func (s *Storage) snapshotNames() ([]string, error) {
	entries, err := s.snapshotEntries()
	if err != nil {
		return nil, fmt.Errorf("cannot list the snapshots of storage %q: %w", s.cfg.DataPath, err)
	}
	var names []string
	for _, e := range entries {
		if _, ok := parseSnapshotName(e.Name); ok && e.IsDir {
			names = append(names, e.Name)
		}
	}
	return names, nil
}

// DeleteSnapshot implements storageapi.Maintenance.
func (s *Storage) DeleteSnapshot(_ context.Context, name string) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	return s.deleteSnapshot(name)
}

// deleteSnapshot renames the snapshot first, so that half of one never passes for a whole.
func (s *Storage) deleteSnapshot(name string) error {
	if _, ok := parseSnapshotName(name); !ok { // which also keeps the path inside the directory
		return errkind.New(errkind.NotFound, "cannot find snapshot %s", strconv.Quote(name))
	}
	err := s.fs.Rename(s.snapshotDir(name), s.snapshotTemp(name))
	if errors.Is(err, fs.ErrNotExist) {
		return errkind.New(errkind.NotFound, "cannot find snapshot %s", strconv.Quote(name))
	}
	if err == nil {
		err = s.fs.SyncDir(s.snapshotsDir())
	}
	if err == nil {
		err = s.fs.RemoveAll(s.snapshotTemp(name))
	}
	if err != nil {
		return fmt.Errorf("cannot delete snapshot %s of storage %q: %w", name, s.cfg.DataPath, err)
	}
	s.logger.Infof("deleted snapshot %q", s.snapshotDir(name))
	return nil
}

// deleteOldSnapshots deletes the snapshots older than -snapshotsMaxAge.
func (s *Storage) deleteOldSnapshots() error {
	maxAge := s.cfg.SnapshotsMaxAge.Millis
	if maxAge <= 0 {
		return nil
	}
	names, err := s.snapshotNames()
	if err != nil {
		return err
	}
	oldest := s.o.Now().Add(-time.Duration(maxAge) * time.Millisecond)
	var errs []error
	for _, name := range names {
		made, _ := parseSnapshotName(name)
		if !made.Before(oldest) {
			continue
		}
		s.logger.Infof("deleting snapshot %q, since it is older than -snapshotsMaxAge=%s", s.snapshotDir(name), s.cfg.SnapshotsMaxAge.String())
		if err := s.deleteSnapshot(name); errkind.Of(err) != errkind.NotFound { // a user may have been faster
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// watchSnapshots looks at the age of snapshots when it is time.
func (s *Storage) watchSnapshots() {
	now := s.o.Now().Unix()
	if now-s.snapshotsSeen.Load() < int64(snapshotAgeInterval.Seconds()) {
		return
	}
	s.snapshotsSeen.Store(now)
	if err := s.deleteOldSnapshots(); err != nil {
		s.logger.Errorf("cannot delete snapshots older than -snapshotsMaxAge=%s; the next try is in %s: %s", s.cfg.SnapshotsMaxAge.String(), snapshotAgeInterval, err)
	}
}

// snapshotCount is a metric.
func (s *Storage) snapshotCount() float64 {
	names, err := s.snapshotNames()
	if err != nil {
		return -1
	}
	return float64(len(names))
}
