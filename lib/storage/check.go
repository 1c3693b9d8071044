package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"vmcluster/lib/errkind"
	"vmcluster/lib/storage/internal/part"
	"vmcluster/lib/storage/internal/partition"
)

// Contents tells how much is in a data directory.
type Contents struct {
	Months, Parts int
	Rows          int64
	Series        int64 // a series of several months counts in each
}

// Check opens a data directory as Open does, without letting anything run there, and returns what it holds. It fails with kind Corrupt
// unless every part that lies there has been opened, with as many rows as it says, in a month whose index has enough series for it. What is
// damaged is moved aside as by Open, so the directory should be a copy.
func Check(cfg Config, o Options) (c Contents, err error) {
	if err := cfg.Check(); err != nil {
		return c, err
	}
	s := newStorage(cfg, o)
	lying, err := s.lyingParts()
	if err == nil {
		err = s.open()
	}
	if err == nil {
		c, err = s.compare(lying)
	}
	s.cancel()
	s.background.Wait()
	if err = errors.Join(err, s.closeFiles()); err != nil {
		return c, fmt.Errorf("cannot check data directory %q: %w", cfg.DataPath, err)
	}
	return c, nil
}

// lying is what the parts of a month say of themselves.
type lying struct {
	parts     int
	rows      int64
	maxSeries int64 // of one part
}

// lyingParts reads what all parts say.
func (s *Storage) lyingParts() (map[partition.Month]lying, error) {
	months, err := s.fs.ReadDir(s.dataDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	found := map[partition.Month]lying{}
	for _, e := range months {
		month, ok := partition.ParseMonth(e.Name)
		if !ok {
			continue
		}
		dir := filepath.Join(s.dataDir, e.Name, "parts")
		parts, err := s.fs.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		l := lying{}
		for _, p := range parts {
			if !p.IsDir {
				continue
			}
			data, err := s.fs.ReadFile(filepath.Join(dir, p.Name, part.MetaName))
			if err != nil {
				return nil, err
			}
			meta, err := part.ParseMeta(data)
			if err != nil {
				return nil, fmt.Errorf("part %s of %s: %w", p.Name, e.Name, err)
			}
			l.parts++
			l.rows += meta.Rows
			l.maxSeries = max(l.maxSeries, meta.Series)
		}
		found[month] = l
	}
	return found, nil
}

// compare compares what was opened with what lies there.
func (s *Storage) compare(lying map[partition.Month]lying) (c Contents, err error) {
	opened := s.table.Load().byMonth
	if len(opened) != len(lying) {
		return c, errkind.New(errkind.Corrupt, "%d months lie there, %d were opened", len(lying), len(opened))
	}
	for month, p := range opened {
		st, want := p.Stats(), lying[month]
		parts, rows := int(st.Small.Parts+st.Big.Parts), st.Small.Rows+st.Big.Rows
		if parts != want.parts || rows != want.rows || int64(st.SeriesCount) < want.maxSeries {
			return c, errkind.New(errkind.Corrupt, "month %s has %d parts with %d rows and up to %d series, of which %d parts with %d rows and %d series were opened",
				month, want.parts, want.rows, want.maxSeries, parts, rows, st.SeriesCount)
		}
		c.Months++
		c.Parts += parts
		c.Rows += rows
		c.Series += int64(st.SeriesCount)
	}
	return c, nil
}
