package storage

import (
	"math"
	"time"
)

// LogNewSeries implements storageapi.Maintenance.
func (s *Storage) LogNewSeries(d time.Duration) time.Time {
	until := s.o.Now().Add(d)
	if s.cfg.LogNewSeries { // for ever; a shorter wish does not end that
		return until
	}
	s.logNewUntil.Store(until.Unix())
	return until
}

// startLogNewSeries heeds -logNewSeries.
func (s *Storage) startLogNewSeries() {
	if s.cfg.LogNewSeries {
		s.logNewUntil.Store(math.MaxInt64)
	}
}

// noteNewSeries logs a series which has just been registered, when that is asked for. It is called once per new series.
func (s *Storage) noteNewSeries(key []byte) {
	until := s.logNewUntil.Load()
	if until == 0 || until < math.MaxInt64 && s.o.Now().Unix() >= until {
		return
	}
	s.logger.Infof("new series created: %s", keyText(key))
}
