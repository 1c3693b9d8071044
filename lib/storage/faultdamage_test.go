package storage_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/storage"
	"vmcluster/lib/vfs"
	"vmcluster/lib/vfs/faultfs"
	"vmcluster/lib/vfs/memfs"
)

// damagedWorld is a storage at rest with all kinds of files: several parts and index files in several months, and a log.
func damagedWorld(t *testing.T, seed uint64) *world {
	w := newWorld(t, seed)
	w.cfg.HeadMaxBytes, w.cfg.LogMaxBytes = 0, 256<<20
	w.open()
	for range 3 {
		for range 6 {
			w.ingest()
		}
		w.admin("flush", func() error { return w.s.Flush(context.Background()) })
	}
	for range 6 {
		w.ingest()
	}
	kill(w.faulty, w.s)
	w.open() // what the killed process has left becomes durable
	kill(w.faulty, w.s)
	return w
}

// walk returns the paths of all files below dir.
func walk(t *testing.T, fsys vfs.FS, dir string) (files []string) {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		p := path.Join(dir, e.Name)
		switch {
		case e.IsDir:
			files = append(files, walk(t, fsys, p)...)
		case e.Name != "flock.lock" && e.Name != "running":
			files = append(files, p)
		}
	}
	return files
}

// mutation is one way to damage a file. It returns the new contents; nil removes the file.
type mutation struct {
	name string
	do   func(data []byte, rng *rand.Rand) []byte
}

func mutations() []mutation {
	flip := func(at func(n int, rng *rand.Rand) int) func([]byte, *rand.Rand) []byte {
		return func(data []byte, rng *rand.Rand) []byte {
			if len(data) > 0 {
				data[at(len(data), rng)] ^= 1 << rng.IntN(8)
			}
			return data
		}
	}
	anywhere := func(n int, rng *rand.Rand) int { return rng.IntN(n) }
	return []mutation{
		{"flip anywhere", flip(anywhere)},
		{"flip anywhere else", flip(anywhere)},
		{"flip once more", flip(anywhere)},
		{"flip near the start", flip(func(n int, rng *rand.Rand) int { return rng.IntN(min(n, 24)) })},
		{"flip near the end", flip(func(n int, rng *rand.Rand) int { return n - 1 - rng.IntN(min(n, 24)) })},
		{"truncate", func(data []byte, rng *rand.Rand) []byte { return data[:rng.IntN(len(data)+1)] }},
		{"cut one byte", func(data []byte, _ *rand.Rand) []byte { return data[:max(0, len(data)-1)] }},
		{"empty", func([]byte, *rand.Rand) []byte { return []byte{} }},
		{"garbage behind", func(data []byte, rng *rand.Rand) []byte {
			for range 1 + rng.IntN(100) {
				data = append(data, byte(rng.Uint32()))
			}
			return data
		}},
		{"zeros", func(data []byte, rng *rand.Rand) []byte {
			if len(data) == 0 {
				return data
			}
			from := rng.IntN(len(data))
			clear(data[from:min(len(data), from+1+rng.IntN(4096))])
			return data
		}},
		{"remove", func([]byte, *rand.Rand) []byte { return nil }},
	}
}

// damageMetrics count what was found to be damaged.
func damageMetrics() []string {
	return []string{
		"vm_corrupt_parts_total", "vm_corrupt_index_total", "vm_wal_damaged_segments_total", "vm_wal_torn_bytes_total",
		"vm_storage_unreplayable_rows_total", "vm_wal_missing_segments_total", "vm_storage_damaged_reads_total", "vm_corrupt_manifests_total",
	}
}

func counted(set *metrics.Set) (total int) {
	for _, name := range damageMetrics() {
		total += int(set.Counter(name).Get())
	}
	return total
}

// damageRun is a damaged copy of a world.
type damageRun struct {
	w       *world
	fs      *memfs.FS
	file    string
	started int
	text    *textLog
	opt     storage.Options
	faulty  *faultfs.FS
	torn    bool // the end of the log was cut off: rot in its very last write looks like a torn one, which tells of a loss only once
	// ended says that the log ends earlier than it did. If that is at the end of a record, it looks as if the rest had never been written.
	ended bool
}

// holds compares what is left with the model: nothing wrong, and what is missing is told. It returns the number of samples.
func (d *damageRun) holds(s *storage.Storage) (samples int, err error) {
	var lacks error
	partial := false
	for i := range worldTenants {
		tenant := feedTenant(i)
		ours := func(key string) bool { return model.SeriesKeyTenant([]byte(key)) == tenant }
		a, err := search(s, &model.SearchQuery{Tenant: tenant, Range: allOfTime()})
		if err != nil {
			return 0, fmt.Errorf("cannot search: %w", err)
		}
		if err := d.w.o.foreign(a, d.w.present(), allOfTime(), ours); err != nil {
			return 0, err
		}
		lacks = errors.Join(lacks, d.w.o.missing(a, d.w.present(), allOfTime(), ours))
		partial = partial || a.partial
		for _, list := range a.series {
			samples += len(list)
		}
	}
	if lacks == nil {
		return samples, nil
	}
	d.torn = d.torn || d.opt.Metrics.Counter("vm_wal_torn_bytes_total").Get() > 0
	if d.torn && d.started > 1 {
		return samples, nil // the first start has told, and its flush has deleted the log
	}
	if d.ended && counted(d.opt.Metrics) == 0 {
		return samples, nil
	}
	told := strings.Contains(d.text.String(), "\terror\t") || strings.Contains(d.text.String(), "\twarn\t")
	switch {
	case !told:
		return 0, fmt.Errorf("the log does not tell of the loss: %w", lacks)
	case counted(d.opt.Metrics) == 0 && (d.started == 1 || !strings.Contains(d.file, "/wal/")): // later starts tell of lost log records by the list of losses
		return 0, fmt.Errorf("no metric counts the loss: %w", lacks)
	case !partial && !d.torn:
		return 0, fmt.Errorf("the answer is not marked partial: %w", lacks)
	}
	return samples, nil
}

func (d *damageRun) open() (*storage.Storage, error) {
	d.started++
	var now atomic.Int64
	now.Store(d.w.now.Load())
	d.faulty = faultfs.New(d.fs)
	d.opt, d.text = d.w.options(d.faulty, &now)
	s, err := storage.Open(d.w.cfg, d.opt)
	if err != nil {
		return nil, fmt.Errorf("cannot open: %w", err)
	}
	synctest.Wait()
	return s, nil
}

// live opens the damaged copy, reads, writes, flushes and merges it, and starts it again: it never gets worse.
func (d *damageRun) live() error {
	before := 0
	for round := range 2 {
		s, err := d.open()
		if err != nil {
			return err
		}
		n, err := d.holds(s)
		if err != nil || n < before {
			kill(d.faulty, s)
			return fmt.Errorf("start %d, %d samples, before %d: %w", round+1, n, before, err)
		}
		err = errors.Join(s.Flush(context.Background()), s.Merge(context.Background(), ""))
		if err != nil && !strings.Contains(d.text.String(), "\terror\t") {
			err = fmt.Errorf("cannot flush and merge, and the log tells of no damage: %w", err)
		} else if after, e := d.holds(s); e != nil || after < n {
			err = fmt.Errorf("after a merge %d samples; before %d: %w", after, n, e)
		} else {
			err, before = nil, n
		}
		kill(d.faulty, s)
		if err != nil {
			return err
		}
	}
	return nil
}

// TestDamageOfEveryFile damages every file of a storage in every way: it starts, what is lost is told by log, metric and partial answers,
// the rest is served, and no value is ever wrong.
func TestDamageOfEveryFile(t *testing.T) {
	seed := rand.Uint64()
	rounds, every := 2, 1
	if testing.Short() {
		rounds, every = 1, 20
	}
	cases := 0
	for i := range rounds {
		synctest.Test(t, func(t *testing.T) {
			w := damagedWorld(t, seed+uint64(i))
			for _, file := range walk(t, w.mem, worldPath) {
				for _, m := range mutations() {
					if w.rng.IntN(every) != 0 {
						continue
					}
					d := &damageRun{w: w, fs: w.mem.Crash(w.rng), file: file}
					d.damage(t, m)
					cases++
					if err := d.live(); err != nil {
						t.Errorf("seed %d, %s, %s: %s\nlog:\n%s", w.seed, file, m.name, err, d.text)
					}
				}
			}
		})
	}
	t.Logf("seed %d: %d cases", seed, cases)
}

// damage does it.
func (d *damageRun) damage(t *testing.T, m mutation) {
	data, err := d.fs.ReadFile(d.file)
	if err != nil {
		t.Fatal(err)
	}
	old := bytes.Clone(data)
	last := true
	for _, file := range walk(t, d.fs, worldPath) {
		if path.Dir(file) == path.Dir(d.file) && file > d.file && path.Base(file) < "9" { // a segment behind it
			behind, err := d.fs.ReadFile(file)
			last = last && err == nil && len(behind) == 0
		}
	}
	data = m.do(data, d.w.rng)
	d.ended = last && strings.Contains(d.file, "/wal/") && 0 < len(data) && len(data) < len(old) && bytes.HasPrefix(old, data)
	if data == nil {
		err = d.fs.Remove(d.file)
	} else {
		err = vfs.WriteFileDurable(d.fs, d.file, data)
	}
	if err != nil {
		t.Fatal(err)
	}
}
