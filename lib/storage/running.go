package storage

import (
	"errors"
	"io/fs"
	"path/filepath"
)

// RunningMark is the name of an empty file in the data directory of a storage that is open. It is left behind by one that was not closed.
const RunningMark = "running"

// markRunning notes whether the storage was closed the last time. The mark is for those who watch, so that nothing depends on it.
func (s *Storage) markRunning() {
	path := filepath.Join(s.cfg.DataPath, RunningMark)
	if _, err := s.fs.ReadFile(path); err == nil {
		s.unclean, s.marked = true, true
		return
	} else if !errors.Is(err, fs.ErrNotExist) {
		s.logger.Warnf("cannot tell whether storage %q was closed the last time: %s", s.cfg.DataPath, err)
		return
	}
	f, err := s.fs.Create(path)
	if err == nil {
		err = errors.Join(f.Close(), s.fs.SyncDir(s.cfg.DataPath))
	}
	s.marked = err == nil
	if err != nil && !diskFull(err) {
		s.logger.Warnf("cannot create file %q; vm_app_prev_shutdown_unclean will not tell of a crash after the next start: %s", path, err)
	}
}

// unmarkRunning removes the mark of a storage which is closed without an error.
func (s *Storage) unmarkRunning(failed error) {
	if failed != nil || !s.marked {
		return
	}
	path := filepath.Join(s.cfg.DataPath, RunningMark)
	if err := errors.Join(s.fs.Remove(path), s.fs.SyncDir(s.cfg.DataPath)); err != nil {
		s.logger.Warnf("cannot remove file %q, so the next start takes this stop for a crash: %s", path, err)
	}
}
