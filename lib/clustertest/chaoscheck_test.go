package clustertest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/flagvalue"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/query"
	"vmcluster/lib/vfs/memfs"
)

const (
	chaosPatience = 40 * time.Second // of readers
	// chaosRecovery is the longest time in which all is well after the last fault.
	chaosRecovery = 30 * time.Second
)

func memfsEmpty() *memfs.FS { return memfs.New(memfs.Options{}) }

// badAnswer reports whether an error is none that a reader may get while there are faults.
func badAnswer(err error) bool {
	kind := errkind.Of(err)
	return !kind.TryElsewhere() && kind != errkind.Canceled
}

// search asks for samples as they are in the background.
func (w *chaos) search(s *chaosSelect) {
	q := model.SearchQuery{Tenant: w.tenants[w.rng.IntN(len(w.tenants))], Range: w.everything()}
	switch w.rng.IntN(4) {
	case 0:
		q.Filters = [][]model.TagFilter{{{Name: model.MetricNameLabel, Value: fmt.Sprint("m", w.rng.IntN(4))}}}
	case 1:
		q.Filters = [][]model.TagFilter{{{Name: "group", Op: model.Regexp, Value: "[0-2]"}, {Name: "i", Op: model.NotEqual, Value: "1"}}}
	case 2:
		q.Range.Max = w.now().UnixMilli()
		q.Range.Min = q.Range.Max - w.rng.Int64N(3600_000)
	}
	q.AllTenants = w.rng.IntN(6) == 0
	asked := s.ask(q)
	w.note("search at %s: %s (all: %t) %v %s", s.host, q.Tenant, q.AllTenants, q.Filters, q.Range)
	w.background(func() { w.compareSearch(s, asked, false) })
	w.settleDown()
}

// settleDown lets all that can be done without waiting be done.
func (w *chaos) settleDown() { w.pass(0) }

func (w *chaos) everything() model.TimeRange {
	at := w.now().UnixMilli()
	return model.TimeRange{Min: at - 3*3600_000, Max: at + 3600_000}
}

// compareSearch asks a reader and compares the answer. It returns it when it is whole.
func (w *chaos) compareSearch(s *chaosSelect, q *question, still bool) found {
	ctx, cancel := context.WithTimeout(context.Background(), chaosPatience)
	defer cancel()
	known := len(s.since(1))
	got, cov, err := readFound(s.everyone, ctx, &q.SearchQuery)
	if q.AllTenants && err == nil { // it takes several calls
		q.lists = s.since(known)
		w.answered("searches of all tenants")
		got, err = tenantless(got)
	}
	if err != nil {
		w.note("search at %s: %s", s.host, err)
		if still || badAnswer(err) {
			w.failf("search at %s fails: %s", s.host, err)
		}
		return nil
	}
	c := s.coverage(cov)
	w.note("search at %s: %d series, partial %t, failed %v", s.host, len(got), c.partial, slices.Sorted(maps.Keys(c.failed)))
	if still && c.partial {
		w.failf("search at %s is partial, although all faults are lifted: %v", s.host, cov.Failed)
	}
	w.answeredPartial(c.partial)
	hides := q.place.enough(q.lists[0], func(n int) bool { return c.failed[n] })
	if hides != c.partial && !(q.AllTenants && (hides || len(q.lists) > 1)) { // searches of several tenants may lack several nodes
		w.failf("search at %s is partial: %t; nodes %v of %v with %s have failed", s.host, c.partial, slices.Sorted(maps.Keys(c.failed)), q.lists, q.place)
	}
	if err := w.book.check(q, got, c); err != nil {
		w.failf("search at %s: %s", s.host, err)
	}
	if c.partial {
		return nil
	}
	return got
}

// answered counts.
func (w *chaos) answered(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.answers[what]++
}

func (w *chaos) answeredPartial(partial bool) {
	w.answered(fmt.Sprintf("answers, partial: %t", partial))
}

// shortRows returns how many rows were acknowledged with too few copies.
func (w *chaos) shortRows() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.short
}

func (s *chaosSelect) engine(cached bool) *query.Engine {
	if cached {
		return s.cached
	}
	return s.plain
}

// evaluate asks how many samples there are, in the background: at least those which must be there, at most those that were ever sent.
func (w *chaos) evaluate(s *chaosSelect) {
	r, cached := w.dashboard(), w.rng.IntN(3) > 0
	r.NoPushDown = w.rng.IntN(3) == 0
	w.evaluateAs(s, r, cached)
}

func (w *chaos) evaluateAs(s *chaosSelect, r query.Request, cached bool) {
	asked := s.ask(model.SearchQuery{Tenant: r.Tenant})
	w.note("evaluate at %s for %s: %s, cached %t, pushed down %t", s.host, r.Tenant, r.Query, cached, !r.NoPushDown)
	w.background(func() {
		for range 2 { // what is asked for the second time is kept
			w.compareEvaluated(s, asked, r, cached)
			asked.began = w.book.now()
		}
	})
	w.settleDown()
}

func (w *chaos) compareEvaluated(s *chaosSelect, q *question, r query.Request, cached bool) {
	ctx, cancel := context.WithTimeout(context.Background(), chaosPatience)
	defer cancel()
	lists := s.since(1)
	res, err := evaluateWithin(ctx, s.engine(cached), r)
	if err != nil {
		w.note("evaluate at %s: %s", s.host, err)
		if badAnswer(err) {
			w.failf("evaluation at %s fails: %s", s.host, err)
		}
		return
	}
	w.note("evaluate at %s: %d series, partial %t", s.host, len(res.Series), res.Partial)
	w.answeredPartial(res.Partial)
	q.lists = s.since(len(lists))
	least, most := w.book.samplesOf(q, coverage{partial: res.Partial})
	low, err1 := w.reference(least, r)
	high, err2 := w.reference(most, r)
	if err := errors.Join(err1, err2, between(res, low, high)); err != nil {
		w.failf("%s at %s, cached %t, pushed down %t, partial %t: %s", r.Query, s.host, cached, !r.NoPushDown, res.Partial, err)
	}
}

func evaluateWithin(ctx context.Context, e *query.Engine, r query.Request) (*query.Result, error) {
	if r.Step == 0 {
		return e.Query(ctx, &r)
	}
	return e.QueryRange(ctx, &r)
}

// reference evaluates a query over the samples of the model.
func (w *chaos) reference(samples found, r query.Request) (*query.Result, error) {
	e := query.New(chaosQueries(flagvalue.Duration(time.Minute)), query.Options{Source: bookSource{samples}, Logger: w.logger, Metrics: metrics.NewSet(), Now: w.now})
	return evaluate(e, r)
}

// between compares numbers of samples.
func between(got, least, most *query.Result) error {
	points := func(r *query.Result) map[string]float64 {
		out := map[string]float64{}
		for _, s := range r.Series {
			for i, v := range s.Values {
				if !math.IsNaN(v) {
					out[fmt.Sprintf("%s at %d", model.LabelsString(s.Labels), s.Timestamps[i])] = v
				}
			}
		}
		return out
	}
	g, low, high := points(got), points(least), points(most)
	for at, v := range low {
		if g[at] < v {
			return fmt.Errorf("%v samples of %s; at least %v must be there", g[at], at, v)
		}
	}
	for at, v := range g {
		if v > high[at] {
			return fmt.Errorf("%v samples of %s; only %v were ever sent", v, at, high[at])
		}
	}
	return nil
}

// list asks for label values and tenants in the background.
func (w *chaos) list(s *chaosSelect) {
	label := []string{model.MetricNameLabel, "group", "i"}[w.rng.IntN(3)]
	asked := s.ask(model.SearchQuery{Tenant: w.tenants[w.rng.IntN(len(w.tenants))], Range: w.everything()})
	ofTenants := w.rng.IntN(3) == 0
	w.note("list at %s", s.host)
	w.background(func() {
		var err error
		if ofTenants {
			err = w.compareTenants(s, asked)
		} else {
			err = w.compareLabels(s, asked, label)
		}
		if err != nil {
			w.note("list at %s: %s", s.host, err)
			if badAnswer(err) {
				w.failf("list at %s: %s", s.host, err)
			}
		}
	})
	w.settleDown()
}

func (w *chaos) compareLabels(s *chaosSelect, q *question, label string) error {
	ctx, cancel := context.WithTimeout(context.Background(), chaosPatience)
	defer cancel()
	got, err := s.everyone.LabelValues(ctx, &q.SearchQuery, label, 0)
	if err != nil {
		return err
	}
	w.answeredPartial(got.Coverage.Partial)
	must, may := w.book.names(q, label, s.coverage(got.Coverage))
	return subsets(must, may, got.Values)
}

func (w *chaos) compareTenants(s *chaosSelect, q *question) error {
	ctx, cancel := context.WithTimeout(context.Background(), chaosPatience)
	defer cancel()
	got, err := s.everyone.Tenants(ctx, q.Range)
	if err != nil {
		return err
	}
	w.answeredPartial(got.Coverage.Partial)
	must, may := w.book.tenants(q, s.coverage(got.Coverage))
	return subsets(must, may, got.Values)
}

func subsets[T comparable](must, may map[T]bool, got []T) error {
	for item := range must {
		if !slices.Contains(got, item) {
			return fmt.Errorf("%v lack %v", got, item)
		}
	}
	for _, item := range got {
		if !may[item] {
			return fmt.Errorf("%v have %v, which was never sent", got, item)
		}
	}
	return nil
}

// liftAll ends all faults and waits for all that is under way.
func (w *chaos) liftAll() {
	w.note("all faults are lifted")
	for len(w.faults) > 0 {
		w.liftOne()
	}
	for _, n := range w.nodes {
		n.restart()
	}
	for _, in := range w.inserts {
		in.follow(w.members)
	}
	for _, s := range w.selects {
		s.follow(w.members)
	}
	w.recover()
	w.ops.Wait()
}

// recover waits until writes and reads are as if nothing had been.
func (w *chaos) recover() {
	began := time.Now()
	for _, in := range w.inserts {
		w.within(began, in.host+" to store all copies", func(ctx context.Context) error {
			b, _ := w.feed.batch()
			w.book.send(b)
			before := w.incomplete()
			if err := in.router.Ingest(ctx, b); err != nil {
				return err
			}
			w.acknowledged(b, -1)
			if n := w.incomplete() - before; n > 0 {
				return fmt.Errorf("%d rows with too few copies", n)
			}
			if len(w.levels) > 0 {
				return levelsConnected(w, in.above)
			}
			return connected(in.clients, in.listed)
		})
	}
	for _, s := range w.selects {
		w.within(began, s.host+" to answer", func(ctx context.Context) error {
			names, err := s.everyone.LabelNames(ctx, &model.SearchQuery{Tenant: w.tenants[0], Range: w.everything()}, 0)
			if err == nil && (names.Coverage.Partial || len(names.Coverage.Failed) > 0 && !w.skips) {
				err = fmt.Errorf("%v", names.Coverage.Failed)
			}
			if len(w.levels) > 0 {
				return errors.Join(err, levelsConnected(w, s.above))
			}
			return errors.Join(err, connected(s.clients, s.listed))
		})
	}
	took := time.Since(began)
	w.note("all is well after %s", took)
	w.tally[slowestRecovery] = max(w.tally[slowestRecovery], int(took.Milliseconds()))
}

func connected[C interface{ Reachable() bool }](clients map[int]C, listed []int) error {
	for _, i := range listed {
		if !clients[i].Reachable() {
			return fmt.Errorf("no connection to node %d", i)
		}
	}
	return nil
}

// sure writes and reads when it is known which nodes can do their work: these are enough, and only the others are missing.
func (w *chaos) sure() {
	if slices.ContainsFunc(w.faults, func(f chaosFault) bool { return !f.calm }) {
		return
	}
	w.ops.Wait()
	w.pass(5 * time.Second) // until all are connected
	up := func(listed []int) (n int) {
		for _, i := range listed {
			if w.nodes[i].up {
				n++
			}
		}
		return n
	}
	in, s := w.inserts[w.rng.IntN(len(w.inserts))], w.reader()
	b, what := w.feed.batch()
	before, number := w.shortRows(), w.tally["writes"]
	w.note("what must succeed: write at %s, search at %s", in.host, s.host)
	w.write(in, b, what)
	w.ops.Wait()
	acked := w.book.acked(b)
	if n := up(in.listed); n > 0 && !acked {
		w.failf("write %d fails, although %d nodes are there", number, n)
	} else if w.roomy(in.listed) && w.shortRows() > before && len(w.lost) == 0 {
		w.failf("write %d has too few copies, although %d nodes are there", number, n)
	}
	n := up(s.listed)
	q := s.ask(model.SearchQuery{Tenant: w.tenants[0], Range: w.everything()})
	_, cov, err := readFound(s.everyone, context.Background(), &q.SearchQuery)
	if (err == nil) != (n > 0) || err == nil && !w.skips && len(s.coverage(cov).failed) != len(s.listed)-n {
		w.failf("search at %s: %v, %v; %d of nodes %v are there", s.host, err, cov.Failed, n, s.listed)
	}
	w.tally["sure writes and reads"]++
}

// roomy reports whether there is room for all copies: groups have as many nodes as copies, or none, and there are enough of the former.
func (w *chaos) roomy(listed []int) bool {
	full := 0
	for g, copies := range w.place.within {
		n := 0
		for _, i := range w.place.inGroup(listed, g) {
			if w.nodes[i].up {
				n++
			}
		}
		switch {
		case n >= copies:
			full++
		case n > 0:
			return false
		}
	}
	return full >= w.place.across
}

func (w *chaos) within(began time.Time, what string, try func(ctx context.Context) error) {
	for w.failed() == "" {
		ctx, cancel := context.WithTimeout(context.Background(), chaosRecovery)
		err := try(ctx)
		cancel()
		if err == nil && time.Since(began) <= chaosRecovery {
			return
		}
		if time.Since(began) > chaosRecovery {
			w.failf("it takes longer than %s for %s: %v", chaosRecovery, what, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// standStill compares all readers with each other and with the model while nothing changes.
func (w *chaos) standStill() {
	// Readers who do without slow nodes do so without the only copies of what was not copied often enough.
	alike := !w.skips || w.book.even(w.members, &w.place)
	w.note("nothing changes; readers are compared: %t", alike)
	w.tally[fmt.Sprintf("readers compared: %t", alike)]++
	total := 0 // samples of all tenants
	for _, tenant := range w.tenants {
		var first found
		for _, s := range w.selects {
			got := w.compareSearch(s, s.ask(model.SearchQuery{Tenant: tenant, Range: w.everything()}), true)
			if w.failed() != "" {
				return
			}
			if first == nil {
				first = got
			}
			if !alike {
				continue
			}
			if !maps.EqualFunc(first, got, maps.Equal[map[int64]uint64, map[int64]uint64]) {
				w.failf("%s and %s find other samples of tenant %s", w.selects[0].host, s.host, tenant)
			}
		}
		total += first.count()
		if alike {
			for range 2 {
				w.compareEvaluations(tenant, first, w.request((&pushDown{rng: w.rng}).expression()), []int{0, 1, 2, 2, 2}) // what is asked for the second time is kept
			}
			for _, text := range dashboards() {
				w.compareEvaluations(tenant, first, w.request(text), []int{2})
			}
		}
	}
	s := w.reader()
	together := w.compareSearch(s, s.ask(model.SearchQuery{AllTenants: true, Range: w.everything()}), true)
	if n := together.count(); alike && n != total {
		w.failf("%d samples of all tenants together at %s; one by one they have %d", n, s.host, total)
	}
	for _, q := range w.tenants {
		err := w.compareLabels(s, s.ask(model.SearchQuery{Tenant: q, Range: w.everything()}), "i")
		if err == nil {
			err = w.compareTenants(s, s.ask(model.SearchQuery{Tenant: q, Range: w.everything()}))
		}
		if err != nil {
			w.failf("list at %s: %s", s.host, err)
		}
	}
	w.withoutSome()
	short, said := w.shortRows(), w.incomplete()
	if short > said {
		w.failf("%d rows were acknowledged with fewer copies than %s; %d were counted as such", short, &w.place, said)
	}
	w.tally["rows with too few copies"] += short
}

// compareEvaluations asks all readers for the same, over the same samples: 0 pushed down, 1 not, 2 with the cache.
func (w *chaos) compareEvaluations(tenant model.TenantID, samples found, r query.Request, ways []int) {
	r.Tenant = tenant
	want, wrong := w.reference(samples, r) // some texts are
	for _, s := range w.selects {
		for _, i := range ways {
			r.NoPushDown = i == 1
			got, err := evaluate(s.engine(i == 2), r)
			if (err == nil) != (wrong == nil) {
				w.failf("%s at %s: %v instead of %v", r.Query, s.host, err, wrong)
				return
			}
			if wrong != nil {
				continue
			}
			if g, e := describeResult(got), describeResult(want); !sameAnswer(g, e) {
				g, e = apart(g, e)
				w.failf("%s from %d to %d of %s at %s, asked in way %d, gives %s instead of %s", r.Query, r.Start, r.End, tenant, s.host, i, g, e)
				return
			}
		}
	}
}

// apart cuts two texts to where they differ.
func apart(a, b string) (string, string) {
	at := 0
	for at < min(len(a), len(b)) && a[at] == b[at] {
		at++
	}
	cut := func(s string) string {
		line := strings.LastIndexByte(s[:at], '\n') + 1
		return fmt.Sprintf("%q..%q", s[line:min(len(s), line+60)], s[max(line, at-20):min(len(s), at+60)])
	}
	return cut(a), cut(b)
}

// withoutSome reads from fewer nodes, which together have a copy of everything that has its copies.
func (w *chaos) withoutSome() {
	if len(w.levels) > 0 {
		return // which have all nodes
	}
	s := w.reader()
	for range 3 {
		out := map[int]bool{}
		for _, i := range w.rng.Perm(len(w.members)) {
			n := w.members[i]
			out[n] = true
			out[n] = !w.place.enough(w.members, func(node int) bool { return out[node] })
		}
		list := slices.DeleteFunc(slices.Clone(w.members), func(n int) bool { return out[n] })
		if len(list) == len(w.members) {
			return
		}
		s.follow(list)
		w.compareSearch(s, s.ask(model.SearchQuery{Tenant: w.tenants[0], Range: w.everything()}), true)
	}
	s.follow(w.members)
}
