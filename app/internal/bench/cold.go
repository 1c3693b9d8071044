package bench

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// ColdResults are queries of which each was the first of a fresh process whose data was not in memory.
type ColdResults struct {
	Method  string        `json:"method"`   // of emptying the page cache
	StartMs float64       `json:"start_ms"` // median time from the start of the processes until they answer
	SumMs   float64       `json:"sum_ms"`
	Queries []QueryResult `json:"queries"` // first_ms and cpu_ms only
}

// coldQueries restarts the server before each query of o.Cold and empties the page cache meanwhile.
func (o *RunOptions) coldQueries(ctx context.Context, s *server, ask QueryOptions) (*ColdResults, error) {
	m, specs, err := ask.load()
	if err != nil {
		return nil, err
	}
	names := splitList(o.Cold)
	var res ColdResults
	var starts []float64
	for i := range specs {
		if !slices.Contains(names, specs[i].Name) {
			continue
		}
		s.stopAll()
		if res.Method, err = dropPageCache(s.dir, o.ColdFiles); err != nil {
			return nil, err
		}
		started := time.Now()
		if err := s.restartAll(ctx); err != nil {
			return nil, err
		}
		starts = append(starts, milliseconds(time.Since(started)))
		ask.Rounds, ask.PIDs = 0, s.pids()
		r := specs[i].measure(ctx, &ask, m)
		if r.Error != "" {
			return nil, fmt.Errorf("cannot ask %s of a fresh process: %s", r.Name, r.Error)
		}
		res.SumMs += r.FirstMs
		res.Queries = append(res.Queries, r)
	}
	if len(res.Queries) == 0 {
		return nil, fmt.Errorf("none of -cold=%s is in the query list", o.Cold)
	}
	res.StartMs = quantile(starts, 0.5)
	return &res, nil
}

// stopAll stops the processes, the last started first.
func (s *server) stopAll() {
	for _, p := range slices.Backward(s.processes) {
		p.stop()
	}
}

// restartAll starts the processes again and waits until they answer a query about nothing in full.
func (s *server) restartAll(ctx context.Context) error {
	for _, p := range s.processes {
		if err := p.start(); err != nil {
			return err
		}
		if err := p.waitHealthy(ctx); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	probe := s.readURL + "/api/v1/query?" + url.Values{"query": {"vmbench_no_such_metric"}}.Encode()
	for {
		data, err := httpDo(ctx, http.MethodGet, probe)
		if err == nil && !strings.Contains(string(data), `"isPartial":true`) {
			return nil
		}
		if pauseErr := pause(ctx, 20*time.Millisecond); pauseErr != nil {
			return errors.Join(fmt.Errorf("the restarted server does not answer queries: %w", pauseErr), err, s.died())
		}
	}
}

// dropCachesFile empties the page cache of the whole machine.
const dropCachesFile = "/proc/sys/vm/drop_caches"

// dropPageCache removes the files of a folder, which no process has open, from memory and tells how. With the
// privilege it empties the page cache of the whole machine, unless filesOnly is set.
func dropPageCache(dir string, filesOnly bool) (method string, err error) {
	syncDisks()
	if filesOnly {
		return "fadvise", dropFiles(dir)
	}
	if err := os.WriteFile(dropCachesFile, []byte("3\n"), 0); err == nil {
		return "drop_caches", nil
	}
	return "fadvise", dropFiles(dir)
}

func dropFiles(dir string) error {
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		return errors.Join(dropPages(f), f.Close())
	})
	if err != nil {
		return fmt.Errorf("cannot empty the page cache of %s: %w; run as root, or give -cold= to leave cold queries out", dir, err)
	}
	return nil
}
