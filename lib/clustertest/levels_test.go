package clustertest

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/fragment"
	"vmcluster/lib/gather"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/query"
	"vmcluster/lib/router"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/storageapi/apitest"
	"vmcluster/lib/trace"
)

// TestLevelsConform runs the suite of the contracts through two levels and through three.
func TestLevelsConform(t *testing.T) {
	for name, start := range map[string]func(t *testing.T) (*Cluster, int){
		"two levels": func(t *testing.T) (*Cluster, int) {
			c, _ := NewTwoLevels(t, 2, 1)
			return c, 3
		},
		"three levels": func(t *testing.T) (*Cluster, int) {
			c, levels := NewTwoLevels(t, 1, 1)
			top := c.NewLevel("top", c.Searcher.(*gather.Gather), c.Ingester)
			c.Ingester = c.NewWriter(router.Config{}, nil, []*Level{top})
			g := c.NewReader(gather.Config{}, nil, []*Level{top})
			c.Searcher, c.Catalog = g, g
			return c, len(levels)
		},
	} {
		t.Run(name, func(t *testing.T) {
			apitest.Run(t, func(t *testing.T) apitest.Target {
				c, n := start(t)
				return apitest.Target{Ingester: c.Ingester, Searcher: c.Searcher, Admin: admin{c}, Catalog: c.Catalog, Nodes: n}
			})
		})
	}
}

// throughLevels returns a reader of the topology that has a level in place of each of some groups, and these by the names of their groups.
func (top *topology) throughLevels() (*gather.Gather, map[string]*Level) {
	levels := map[string]*Level{}
	cfg := gather.Config{GlobalReplicationFactor: top.groupsPerSample(), ReplicationFactor: gather.Factors{Groups: map[string]int{}}, SkipSlowReplicas: top.rng.IntN(2) == 0}
	var direct []*Node
	for _, name := range top.names {
		var own []*Node
		for _, i := range top.members[name] {
			own = append(own, top.Nodes[i])
		}
		if top.rng.IntN(4) == 0 && name != "" {
			direct = append(direct, own...)
			cfg.ReplicationFactor.Groups[name] = top.copiesIn(name)
			continue
		}
		below := gather.Config{ReplicationFactor: gather.Factors{Default: top.copiesIn(name)}, SkipSlowReplicas: top.rng.IntN(3) == 0}
		l := top.NewLevel("level-"+name, top.NewReader(below, own, nil), nil)
		l.Group = name
		levels[name] = l
	}
	return top.NewReader(cfg, direct, slices.Collect(maps.Values(levels))), levels
}

// TestLevelsReadAsOne loses random nodes of random topologies, and whole levels. What is read through a level of clusters is what a reader of all nodes
// reads, to the last bit, and partial exactly when the truth table of docs/design/0027-replicated-reads.md says so.
func TestLevelsReadAsOne(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	whole, partial, gone := 0, 0, 0
	rounds, bound := 12, 60
	if testing.Short() {
		rounds, bound = 3, 3
	}
	for round := 0; round < rounds || round < bound && (whole == 0 || partial == 0 || gone == 0); round++ {
		top := newTopology(t, rng)
		top.load(t, 40)
		g, levels := top.throughLevels()
		engines := []*query.Engine{top.engine, newEngine(g, g, metrics.NewSet())}
		for _, r := range top.requests(8) {
			top.agree(t, engines, r, false)
		}
		lost := rng.Perm(len(top.Nodes))[:rng.IntN(len(top.Nodes))]
		for _, i := range lost {
			top.Nodes[i].Stop()
		}
		hiding := top.mayHide(lost)
		for _, r := range top.requests(8) {
			top.agree(t, engines, r, hiding)
		}
		top.sameCoverage(t, g, hiding)
		switch {
		case hiding:
			partial++
		case len(lost) > 0:
			whole++
		}
		if len(levels) == 0 || len(top.names) == 1 || len(lost) > 0 {
			continue
		}
		// A level which is away is a group without any node.
		name := slices.Sorted(maps.Keys(levels))[0]
		levels[name].Stop()
		gone++
		top.sameCoverage(t, g, top.mayHide(top.members[name]))
	}
	t.Logf("%d times the answers were whole without some nodes, %d times partial; %d times a level was away", whole, partial, gone)
	if !testing.Short() && (whole == 0 || partial == 0 || gone == 0) {
		t.Error("not everything has happened")
	}
}

func (top *topology) requests(n int) []query.Request {
	var list []query.Request
	for range n {
		list = append(list, top.request(top.expression()))
	}
	return list
}

// sameCoverage asks for lists, which say how much they rest on, and wants whole answers where they are.
func (top *topology) sameCoverage(t *testing.T, g *gather.Gather, hiding bool) {
	t.Helper()
	names, err := g.LabelNames(t.Context(), everything(), 0)
	if err != nil || names.Coverage.Partial != hiding {
		t.Errorf("%+v, nodes %v: label names %v, %+v; partial should be %t", top.cfg, top.members, err, names.Coverage, hiding)
	}
	if _, err := g.LabelNames(gather.WithDenyPartial(t.Context()), everything(), 0); (errkind.Of(err) == errkind.Unavailable) != hiding {
		t.Errorf("%+v, nodes %v: partial answers denied: %v; partial is %t", top.cfg, top.members, err, hiding)
	}
	_, err = g.DeleteSeries(t.Context(), &model.SearchQuery{Range: everything().Range, Filters: [][]model.TagFilter{{{Name: "nothing", Value: "has this"}}}})
	missing := slices.ContainsFunc(names.Coverage.Failed, func(f storageapi.NodeFailure) bool {
		return !strings.Contains(f.Err.Error(), "-search.skipSlowReplicas")
	})
	// A node which was not waited for may be well or not.
	if missing && err == nil || err != nil && len(names.Coverage.Failed) == 0 {
		t.Errorf("%+v, nodes %v: deletion %v; nodes that failed: %+v", top.cfg, top.members, err, names.Coverage.Failed)
	}
}

// TestFragmentsThroughLevels compares what storage nodes aggregate below two levels with what is read, with series that two nodes of
// one level have parts of, and such that two levels have, and in a second round nodes are missing.
func TestFragmentsThroughLevels(t *testing.T) {
	expressions := 30
	if testing.Short() {
		expressions = 5
	}
	for _, c := range []struct{ series, shared int }{{200, 0}, {300, 20}, {40, 40}} {
		t.Run(fmt.Sprintf("%d of %d series shared", c.shared, c.series), func(t *testing.T) {
			p := newPushDown(t, 5)
			p.load(t, c.series, c.shared) // a shared series is on neighbours
			g := p.NewReader(gather.Config{}, nil, p.Split(2, 3))
			set := metrics.NewSet()
			engine := newEngine(g, g, set)
			compare := func() {
				for range expressions {
					r := p.request(p.expression())
					got, err1 := evaluate(engine, r)
					r.NoPushDown = true
					want, err2 := evaluate(p.engine, r)
					if fmt.Sprint(err1) != fmt.Sprint(err2) {
						t.Fatalf("%s: %v, %v", r.Query, err1, err2)
					}
					if err1 != nil {
						continue // not all of them are expressions
					}
					if got, want := describeResult(got), describeResult(want); !sameAnswer(got, want) {
						t.Fatalf("%s gives\n%s\ninstead of\n%s", r.Query, got, want)
					}
				}
			}
			compare()
			pushed := set.Counter(`vm_query_fragments_total{evaluated_by="storage"}`).Get()
			if c.shared < c.series && pushed == 0 {
				t.Error("nothing was pushed down")
			}
			p.Nodes[3].Stop()
			compare()
		})
	}
}

// TestFragmentsSharedByLevels: a series which two nodes of a level have, and one of another level, is counted once.
func TestFragmentsSharedByLevels(t *testing.T) {
	p := newPushDown(t, 4)
	for _, node := range []int{0, 1, 2} {
		p.write(t, p.Nodes[node].Storage, 1, []model.Sample{{Timestamp: apitest.DefaultBase + 1000, Value: 1}})
	}
	p.write(t, p.Nodes[3].Storage, 4, []model.Sample{{Timestamp: apitest.DefaultBase + 1000, Value: 1}})
	g := p.NewReader(gather.Config{}, nil, p.Split(2, 2))
	f := &fragment.Fragment{Search: *everything(), Function: "count_over_time", Start: apitest.DefaultBase + 60_000, End: apitest.DefaultBase + 60_000, Step: 1000, Window: 60_000, Lookback: 60_000, Aggregate: "sum"}
	r, err := g.Reduce(t.Context(), f)
	if err != nil || len(r.Results) != 4 {
		t.Fatalf("%+v, %v", r, err)
	}
	alone, handedOver := 0, 0
	for _, res := range r.Results {
		alone += len(res.Fingerprints)
		handedOver += len(res.Excluded)
	}
	if alone != 1 || handedOver != 3 {
		t.Errorf("%d series are aggregated alone and %d handed over; want 1 and 3", alone, handedOver)
	}
}

// TestVersionsThroughLevels: versions are those of all nodes, and an error when one of them is missing anywhere.
func TestVersionsThroughLevels(t *testing.T) {
	c, levels := NewTwoLevels(t, 2, 2)
	flat := c.NewReader(gather.Config{}, c.Nodes, nil)
	ctx, r := t.Context(), everything().Range
	want, err := flat.Versions(ctx, model.TenantID{}, r)
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Versions.Versions(ctx, model.TenantID{}, r)
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range [][]storageapi.Version{got, want} { // each reader tells of a node in words of its own
		for i := range list {
			if list[i].Instance == 0 {
				t.Errorf("%+v has no instance", list[i])
			}
			list[i].Instance = 0
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v; want %+v", got, want)
	}
	c.Nodes[3].Stop()
	if _, err := c.Versions.Versions(ctx, model.TenantID{}, r); err == nil {
		t.Error("versions are told without a node below")
	}
	levels[0].Stop()
	if _, err := c.Versions.Versions(ctx, model.TenantID{}, r); err == nil {
		t.Error("versions are told without a level")
	}
}

// TestTraceThroughLevels: the steps of a storage node stand below those of the level it belongs to.
func TestTraceThroughLevels(t *testing.T) {
	c, _ := NewTwoLevels(t, 1, 1)
	root := trace.New(time.Now, time.Now(), "query")
	if _, err := c.Searcher.LabelNames(root.Within(t.Context()), everything(), 0); err != nil {
		t.Fatal(err)
	}
	var steps []string
	var walk func(n trace.Node, depth int)
	walk = func(n trace.Node, depth int) {
		if name, _, _ := strings.Cut(n.Message, ":"); strings.HasPrefix(name, "labelNames") {
			steps = append(steps, fmt.Sprint(depth, " ", name))
		}
		for _, child := range n.Children {
			walk(child, depth+1)
		}
	}
	walk(root.Node(), 0)
	slices.Sort(steps)
	if got, want := strings.Join(steps, "; "), "1 labelNames at storage node a-level; 1 labelNames at storage node b-level; 2 labelNames at vmselect; 2 labelNames at vmselect; "+
		"3 labelNames at storage node node-0; 3 labelNames at storage node node-1; 4 labelNames at vmstorage; 4 labelNames at vmstorage"; got != want {
		t.Errorf("steps are %s; want %s", got, want)
	}
}

// TestFailuresThroughLevels: the answer names the node which is missing, and the level it belongs to.
func TestFailuresThroughLevels(t *testing.T) {
	c, levels := NewTwoLevels(t, 2, 1)
	c.Nodes[1].Stop()
	levels[1].Stop()
	names, err := c.Searcher.LabelNames(t.Context(), everything(), 0)
	if err != nil {
		t.Fatal(err)
	}
	var failed []string
	for _, f := range names.Coverage.Failed {
		failed = append(failed, f.Node)
	}
	if got := strings.Join(failed, "; "); got != "node-1 of a-level; b-level" || !names.Coverage.Partial {
		t.Errorf("got %q, partial %t", got, names.Coverage.Partial)
	}
}

// TestCancelThroughLevels gives up a search in the middle, and one whose time is over: nothing goes on below.
func TestCancelThroughLevels(t *testing.T) {
	c, _ := NewTwoLevels(t, 2, 2)
	p := pushDownOver(c, rand.New(rand.NewPCG(1, 2)))
	p.load(t, 60, 0)
	for _, ctx := range []func() (context.Context, context.CancelFunc){
		func() (context.Context, context.CancelFunc) { return context.WithCancel(t.Context()) },
		func() (context.Context, context.CancelFunc) { return context.WithDeadline(t.Context(), time.Now()) },
	} {
		ctx, cancel := ctx()
		it, err := c.Searcher.Search(ctx, everything())
		if err == nil {
			it.Next()
			cancel()
			for it.Next() {
			}
			err = it.Err()
			_ = it.Close()
		}
		cancel()
		if kind := errkind.Of(err); err != nil && kind != errkind.Canceled && kind != errkind.Timeout {
			t.Errorf("error %v", err)
		}
	}
	waitFor(t, "the end of all searches", func() bool {
		it, err := c.Searcher.Search(t.Context(), everything()) // and others are answered
		if err != nil {
			return false
		}
		defer it.Close()
		n := 0
		for it.Next() {
			n++
		}
		return it.Err() == nil && n == 60
	})
}

// failing is an Ingester whose disk is full, or which fails in another way.
type failing struct{ kind errkind.Kind }

func (f failing) Ingest(context.Context, *model.Batch) error {
	return errkind.New(f.kind, "it fails")
}

// TestBackPressureThroughLevels: a level none of whose nodes takes writes says why, and the rows go to another level.
func TestBackPressureThroughLevels(t *testing.T) {
	for _, kind := range []errkind.Kind{errkind.ReadOnly, errkind.Overloaded, errkind.Unavailable} {
		c := New(t, 1)
		full, err := router.New(router.Options{Nodes: []router.Node{{Name: "x", Ingester: failing{kind}}, {Name: "y", Ingester: failing{kind}}}, Logger: logger.Discard(), Metrics: metrics.NewSet()})
		if err != nil {
			t.Fatal(err)
		}
		bad := c.NewLevel("bad", c.NewReader(gather.Config{}, c.Nodes, nil), full)
		good := c.NewLevel("good", c.NewReader(gather.Config{}, c.Nodes, nil), c.Ingester)
		alone := c.NewWriter(router.Config{}, nil, []*Level{bad})
		var b model.Batch
		for i := range 100 {
			if err := b.AddSeries(model.TenantID{AccountID: 7}, []model.Label{{Name: model.MetricNameLabel, Value: fmt.Sprint("m", i)}}); err != nil {
				t.Fatal(err)
			}
			b.AddSample(apitest.DefaultBase, 1)
		}
		if err := alone.Ingest(t.Context(), &b); errkind.Of(err) != kind {
			t.Errorf("%s: a level that is alone gives %v", kind, err)
		}
		if err := c.NewWriter(router.Config{}, nil, []*Level{bad, good}).Ingest(t.Context(), &b); err != nil {
			t.Errorf("%s: two levels give %v", kind, err)
		}
		if n := countSeries(t, c.Searcher, model.TenantID{AccountID: 7}); n != 100 {
			t.Errorf("%s: %d series are stored", kind, n)
		}
	}
}

func countSeries(t *testing.T, s storageapi.Searcher, tenant model.TenantID) (n int) {
	t.Helper()
	q := everything()
	q.Tenant, q.KeysOnly = tenant, true
	it, err := s.Search(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	for it.Next() {
		n++
	}
	if it.Err() != nil || it.Coverage().Partial {
		t.Errorf("error %v, %+v", it.Err(), it.Coverage())
	}
	return n
}

// TestLevelsAreRestarted writes while the lower levels' insert nodes are restarted in turn: every acknowledged sample is found.
func TestLevelsAreRestarted(t *testing.T) {
	c, levels := NewTwoLevels(t, 2, 2)
	acked := acknowledged{samples: map[string]map[int64]float64{}}
	stop := make(chan struct{})
	var writers sync.WaitGroup
	for w := range 3 {
		writers.Go(func() { write(t.Context(), c, w, &acked, stop) })
	}
	for i := range 6 {
		waitForGrowth(t, &acked)
		l := levels[i%2]
		l.Stop()
		waitForGrowth(t, &acked) // the other one takes its share
		l.Start()
	}
	close(stop)
	writers.Wait()
	waitFor(t, "whole answers", func() bool {
		names, err := c.Searcher.LabelNames(t.Context(), everything(), 0)
		return err == nil && !names.Coverage.Partial
	})
	compare(t, c, &acked)
}
