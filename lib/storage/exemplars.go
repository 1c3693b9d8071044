package storage

import (
	"context"
	"path/filepath"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storage/internal/exemplars"
	"vmcluster/lib/storageapi"
)

var (
	_ storageapi.ExemplarWriter = (*Storage)(nil)
	_ storageapi.ExemplarReader = (*Storage)(nil)
)

// exemplarsName is the directory of exemplars, beside the partitions so that snapshots and backups hold it.
const exemplarsName = "exemplars"

func (s *Storage) openExemplars() (err error) {
	limit := int64(s.cfg.ExemplarBytes)
	if limit <= 0 {
		limit = s.o.Budget.Limit() / 100
	}
	s.exemplars, err = exemplars.Open(exemplars.Options{
		FS: s.fs, Dir: filepath.Join(s.dataDir, exemplarsName), MaxBytes: limit, Oldest: func() int64 { return s.retained().Min },
		Logger: s.logger, Metrics: s.o.Metrics, Budget: s.o.Budget,
	})
	return err
}

// AddExemplars implements storageapi.ExemplarWriter. Exemplars have a log of their own: what befalls it does not concern samples.
func (s *Storage) AddExemplars(ctx context.Context, list []model.Exemplar) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	if s.readOnly.Load() {
		return errkind.New(errkind.ReadOnly, "storage %q takes no exemplars, since it is in read-only mode", s.cfg.DataPath)
	}
	accepted := s.accepted()
	kept := make([]model.Exemplar, 0, len(list))
	for i := range list {
		switch e := &list[i]; {
		case e.Timestamp < accepted.Min:
			s.m.oldExemplars.Inc()
		case e.Timestamp > accepted.Max:
			s.m.earlyExemplars.Inc()
		default:
			kept = append(kept, *e)
		}
	}
	return s.exemplars.Add(kept)
}

// Exemplars implements storageapi.ExemplarReader.
func (s *Storage) Exemplars(ctx context.Context, q *storageapi.ExemplarQuery) (storageapi.ExemplarList, error) {
	if err := s.enter(); err != nil {
		return storageapi.ExemplarList{}, err
	}
	defer s.leave()
	own := *q
	var err error
	if own.Search.Range, err = s.readable(q.Search.Range); err != nil {
		return storageapi.ExemplarList{}, err
	}
	list, err := s.exemplars.Find(ctx, &own)
	return storageapi.ExemplarList{Items: list}, err
}
