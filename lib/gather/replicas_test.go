package gather

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/tsblock"
)

// replicate returns nodes with copies of series, each on as many of them.
func replicate(rng *rand.Rand, nodes, copies, series int) []*fakeNode {
	list := make([]*fakeNode, nodes)
	for i := range list {
		list[i] = &fakeNode{}
	}
	for k := range series {
		column := fmt.Appendf(nil, "%d%s", k, strings.Repeat("x", rng.IntN(3000)))
		s := storageapi.Series{Key: fmt.Appendf(nil, "tenant00key%06d", k), Blocks: []tsblock.Block{{Count: k, Timestamps: column, Values: column}}}
		for _, i := range pick(rng, nodes, copies) {
			list[i].series = append(list[i].series, s)
		}
	}
	return list
}

func skipping(factor int) Config {
	return Config{ReplicationFactor: Factors{Default: factor}, SkipSlowReplicas: true}
}

// collect reads an answer to its end and checks that it holds series 0 to n-1, each with the blocks of its copies.
func collect(t *testing.T, it storageapi.SeriesIterator, n int) {
	t.Helper()
	for k := range n {
		if !it.Next() {
			t.Fatalf("the answer ends after %d of %d series: %v", k, n, it.Err())
		}
		s := it.At()
		if want := fmt.Sprintf("tenant00key%06d", k); string(s.Key) != want || len(s.Blocks) == 0 {
			t.Fatalf("series %d is %q with %d blocks; want %q", k, s.Key, len(s.Blocks), want)
		}
		for _, b := range s.Blocks {
			if b.Count != k || !bytes.HasPrefix(b.Values, fmt.Append(nil, k, "")) || !bytes.Equal(b.Values, s.Blocks[0].Values) {
				t.Fatalf("series %d has a block of another one", k)
			}
		}
	}
	if it.Next() || it.Err() != nil {
		t.Fatalf("the answer goes on with %q: %v", it.At().Key, it.Err())
	}
}

func failedNames(c storageapi.Coverage) string {
	var names []string
	for _, f := range c.Failed {
		names = append(names, f.Node)
	}
	return strings.Join(names, " ")
}

// TestSkipSlow has a node stand still, from the start or later: the answer is whole without it.
func TestSkipSlow(t *testing.T) {
	rng := newRand(t)
	for range 40 {
		factor := 2 + rng.IntN(2)
		nodes := replicate(rng, factor+rng.IntN(3), factor, 400)
		slow := pick(rng, len(nodes), 1+rng.IntN(factor-1))
		for _, i := range slow {
			nodes[i].block, nodes[i].blockAt = make(chan struct{}), rng.IntN(len(nodes[i].series))
		}
		g := newGatherWith(t, skipping(factor), nodes...)
		it, err := g.Search(t.Context(), &model.SearchQuery{})
		if err != nil {
			t.Fatal(err)
		}
		collect(t, it, 400)
		cov := it.Coverage()
		for _, i := range slow {
			if cov.Partial || !strings.Contains(failedNames(cov), fmt.Sprint("node", i)) {
				t.Fatalf("slow nodes %v: coverage %+v", slow, cov)
			}
		}
		if g.skipped.Get() < uint64(len(slow)) || g.partial[actionSearch].Get() != 0 {
			t.Errorf("%d nodes are counted as skipped, %d answers as partial", g.skipped.Get(), g.partial[actionSearch].Get())
		}
		closeAll(t, it, nodes)
	}
}

// TestSkipSlowInTurns has one node stand still at the start and another one later: the first is needed then, and comes back in time.
func TestSkipSlowInTurns(t *testing.T) {
	rng := newRand(t)
	for range 20 {
		nodes := replicate(rng, 3, 2, 600)
		first, second := nodes[1], nodes[2]
		first.block = make(chan struct{})
		second.block, second.blockAt = make(chan struct{}), 100+rng.IntN(100)
		it, err := newGatherWith(t, skipping(2), nodes...).Search(t.Context(), &model.SearchQuery{})
		if err != nil {
			t.Fatal(err)
		}
		for k := range 90 { // these are there without the first one
			if !it.Next() || !strings.HasSuffix(string(it.At().Key), fmt.Sprintf("%06d", k)) {
				t.Fatalf("series %d is missing: %v", k, it.Err())
			}
		}
		close(first.block)
		for k := 90; k < 600; k++ {
			if !it.Next() || !strings.HasSuffix(string(it.At().Key), fmt.Sprintf("%06d", k)) {
				t.Fatalf("series %d is missing: %v", k, it.Err())
			}
		}
		if it.Next() || it.Err() != nil || it.Coverage().Partial {
			t.Fatalf("error %v, coverage %+v", it.Err(), it.Coverage())
		}
		closeAll(t, it, nodes)
	}
}

// TestNotEnoughCopies has more nodes fail than there are copies: slow ones are waited for, and the answer is partial.
func TestNotEnoughCopies(t *testing.T) {
	rng := newRand(t)
	for range 20 {
		nodes := replicate(rng, 4, 2, 300)
		slow := nodes[3]
		slow.block = make(chan struct{})
		for _, n := range nodes[:2] {
			n.streamErr, n.failAfter = errkind.New(errkind.Unavailable, "connection lost"), rng.IntN(10)
		}
		want := map[string]bool{}
		for _, n := range nodes[2:] {
			for _, s := range n.series {
				want[string(s.Key)] = true
			}
		}
		it, err := newGatherWith(t, skipping(2), nodes...).Search(t.Context(), &model.SearchQuery{})
		if err != nil {
			t.Fatal(err)
		}
		go close(slow.block)
		for it.Next() {
			delete(want, string(it.At().Key))
		}
		cov := it.Coverage()
		if len(want) > 0 || !cov.Partial || failedNames(cov) != "node0 node1" {
			t.Fatalf("%d series of nodes which did not fail are missing; coverage %+v, error %v", len(want), cov, it.Err())
		}
		closeAll(t, it, nodes)
	}
}

// TestReplicasAgainstModel loses and slows down random nodes: an answer that calls itself whole is.
func TestReplicasAgainstModel(t *testing.T) {
	rng := newRand(t)
	for range 150 {
		factor := 1 + rng.IntN(3)
		const series = 150
		nodes := replicate(rng, factor+rng.IntN(3), factor, series)
		failed := pick(rng, len(nodes), rng.IntN(len(nodes)))
		for _, i := range failed {
			nodes[i].streamErr, nodes[i].failAfter = errkind.New(errkind.Unavailable, "gone"), rng.IntN(1+len(nodes[i].series))
		}
		for _, n := range nodes {
			if rng.IntN(3) == 0 {
				n.block, n.blockAt = make(chan struct{}), rng.IntN(series)
				go close(n.block)
			}
		}
		cfg := Config{ReplicationFactor: Factors{Default: factor}, SkipSlowReplicas: rng.IntN(2) == 0}
		g := newGatherWith(t, cfg, nodes...)
		it, err := g.Search(t.Context(), &model.SearchQuery{})
		if err != nil {
			t.Fatal(err)
		}
		if len(failed) < factor {
			collect(t, it, series)
		} else {
			for it.Next() {
			}
		}
		if cov := it.Coverage(); it.Err() != nil || cov.Partial != (len(failed) >= factor) {
			t.Fatalf("%d copies, nodes %v of %d lost: error %v, coverage %+v", factor, failed, len(nodes), it.Err(), cov)
		}
		closeAll(t, it, nodes)
	}
}

// TestSkipSlowEnds: limits, faults of the query, a reader who has enough, and one who gives up.
func TestSkipSlowEnds(t *testing.T) {
	rng := newRand(t)
	nodes := replicate(rng, 3, 2, 300)
	if _, _, err := drain(t.Context(), newGatherWith(t, skipping(2), nodes...), &model.SearchQuery{MaxSeries: 299}); errkind.Of(err) != errkind.Unprocessable {
		t.Errorf("a limit: %v", err)
	}
	nodes[0].block = make(chan struct{})
	it, err := newGatherWith(t, skipping(2), nodes...).Search(t.Context(), &model.SearchQuery{})
	if err != nil || !it.Next() {
		t.Fatal(err, it.Err())
	}
	closeAll(t, it, nodes)

	nodes[1].block = make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	if it, err = newGatherWith(t, skipping(2), nodes...).Search(ctx, &model.SearchQuery{}); err != nil {
		t.Fatal(err)
	}
	cancel() // two of three nodes stand still
	if it.Next() || errkind.Of(it.Err()) != errkind.Canceled {
		t.Errorf("given up: %v", it.Err())
	}
	closeAll(t, it, nodes)

	for _, n := range nodes {
		n.block, n.searchErr = nil, errors.New("broken")
	}
	if _, _, err := drain(t.Context(), newGatherWith(t, skipping(2), nodes...), &model.SearchQuery{}); errkind.Of(err) != errkind.Unavailable {
		t.Errorf("all nodes are broken: %v", err)
	}
	nodes[0].searchErr = errkind.New(errkind.BadRequest, "bad regexp")
	nodes[1].block, nodes[1].searchErr = make(chan struct{}), nil
	if _, _, err := drain(t.Context(), newGatherWith(t, skipping(3), nodes...), &model.SearchQuery{}); errkind.Of(err) != errkind.BadRequest {
		t.Errorf("a bad query: %v", err)
	}
}

// TestSkipSlowKeepsWhatIsPartialBelow: a node which says that its own answer lacks data cannot stand in for one that was not waited for.
func TestSkipSlowKeepsWhatIsPartialBelow(t *testing.T) {
	rng := newRand(t)
	synctest.Test(t, func(t *testing.T) {
		nodes := replicate(rng, 2, 2, 500)
		nodes[1].block, nodes[1].blockAt = make(chan struct{}), 20
		list := named(nodes...)
		list[0].Searcher = partialSearcher{nodes[0]}
		g, err := New(Options{Nodes: list, Config: skipping(2), Logger: logger.Discard(), Metrics: metrics.NewSet()})
		if err != nil {
			t.Fatal(err)
		}
		it, err := g.Search(t.Context(), &model.SearchQuery{})
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Second, func() { close(nodes[1].block) }) // it is waited for when the partial node has told its end
		for it.Next() {
		}
		if cov := it.Coverage(); it.Err() != nil || !cov.Partial {
			t.Errorf("error %v, coverage %+v", it.Err(), cov)
		}
		closeAll(t, it, nodes)
	})
}

type partialSearcher struct{ *fakeNode }

func (p partialSearcher) Search(ctx context.Context, q *model.SearchQuery) (storageapi.SeriesIterator, error) {
	it, err := p.fakeNode.Search(ctx, q)
	return partialIterator{it}, err
}

type partialIterator struct{ storageapi.SeriesIterator }

func (partialIterator) Coverage() storageapi.Coverage { return storageapi.Coverage{Partial: true} }

func TestSkipSlowLists(t *testing.T) {
	nodes := []*fakeNode{{names: []string{"a", "b"}}, {names: []string{"b", "c"}}, {names: []string{"a", "c"}, block: make(chan struct{})}}
	g := newGatherWith(t, skipping(2), nodes...)
	got, err := g.LabelNames(t.Context(), &model.SearchQuery{}, 0)
	if err != nil || strings.Join(got.Values, " ") != "a b c" || got.Coverage.Partial || failedNames(got.Coverage) != "node2" {
		t.Errorf("%+v, %v", got, err)
	}
	nodes[0].searchErr = errkind.New(errkind.Unavailable, "down")
	go close(nodes[2].block)
	if got, err = g.LabelNames(t.Context(), &model.SearchQuery{}, 0); err != nil || got.Coverage.Partial || failedNames(got.Coverage) != "node0" {
		t.Errorf("with a node that is needed: %+v, %v", got, err)
	}
}

// TestSumsNeedAllNodes: copies do not help where every node counts for itself.
func TestSumsNeedAllNodes(t *testing.T) {
	nodes := named(&fakeNode{}, &fakeNode{})
	nodes[0].Catalog = &fakeCatalog{}
	nodes[1].Catalog = &fakeCatalog{err: errkind.New(errkind.Unavailable, "down")}
	g, err := New(Options{Nodes: nodes, Config: skipping(2), Logger: logger.Discard(), Metrics: metrics.NewSet()})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := g.SeriesCount(t.Context(), model.TenantID{}); err != nil || !n.Coverage.Partial {
		t.Errorf("%+v, %v", n, err)
	}
	if s, err := g.Status(t.Context(), &storageapi.StatusQuery{}); err != nil || !s.Coverage.Partial {
		t.Errorf("%+v, %v", s.Coverage, err)
	}
}

// TestOrderOfNodes: the answer is the same in whichever order nodes are given.
func TestOrderOfNodes(t *testing.T) {
	rng := newRand(t)
	nodes, all := randomNodes(rng, 5, 300)
	list := named(nodes...)
	for range 5 {
		rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		g, err := New(Options{Nodes: list, Logger: logger.Discard(), Metrics: metrics.NewSet()})
		if err != nil {
			t.Fatal(err)
		}
		it, err := g.Search(t.Context(), &model.SearchQuery{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range all {
			if !it.Next() || !sameSeries(it.At(), &all[i]) {
				t.Fatalf("series %d differs", i)
			}
		}
		closeAll(t, it, nodes)
	}
}

// TestSetNodes: calls keep the nodes they have begun with, and say when they are done.
func TestSetNodes(t *testing.T) {
	rng := newRand(t)
	before, _ := randomNodes(rng, 2, 200)
	after, want := randomNodes(rng, 3, 100)
	g := newGather(t, before...)
	old, err := g.Search(t.Context(), &model.SearchQuery{})
	if err != nil || !old.Next() {
		t.Fatal(err)
	}
	first, err := g.SetNodes(named(after[:1]...))
	if err != nil {
		t.Fatal(err)
	}
	second, err := g.SetNodes(named(after...)) // nothing has used the list between, but the first is still in use
	if err != nil {
		t.Fatal(err)
	}
	for name, unused := range map[string]<-chan struct{}{"first": first, "second": second} {
		select {
		case <-unused:
			t.Fatalf("the nodes before the %s change count as unused", name)
		default:
		}
	}
	if n, cov, err := drain(t.Context(), g, &model.SearchQuery{}); n != len(want) || cov.Partial || err != nil {
		t.Errorf("with the new nodes there are %d of %d series: %v", n, len(want), err)
	}
	for old.Next() {
	}
	if old.Err() != nil || old.Coverage().Partial {
		t.Errorf("the query which had begun before: %v, %+v", old.Err(), old.Coverage())
	}
	closeAll(t, old, before)
	for _, unused := range []<-chan struct{}{first, second} {
		select {
		case <-unused:
		case <-time.After(10 * time.Second):
			t.Fatal("the former nodes are never unused")
		}
	}
	if _, err := g.SetNodes(nil); errkind.Of(err) != errkind.BadRequest {
		t.Errorf("no nodes: %v", err)
	}
	if _, err := g.SetNodes(slices.Concat(named(after...), named(after...))); errkind.Of(err) != errkind.BadRequest {
		t.Errorf("nodes given twice: %v", err)
	}
	if n, _, err := drain(t.Context(), g, &model.SearchQuery{}); n != len(want) || err != nil {
		t.Errorf("a bad list changed the nodes: %d series, %v", n, err)
	}
}

func BenchmarkRace(b *testing.B) {
	nodes := replicate(rand.New(rand.NewPCG(1, 2)), 3, 2, 5000)
	for name, cfg := range map[string]Config{"wait": {ReplicationFactor: Factors{Default: 2}}, "skip": skipping(2)} {
		b.Run(name, func(b *testing.B) {
			g := newGatherWith(b, cfg, nodes...)
			b.ReportAllocs()
			for b.Loop() {
				if n, _, err := drain(b.Context(), g, &model.SearchQuery{}); n != 5000 || err != nil {
					b.Fatal(n, err)
				}
			}
		})
	}
}

// levelNode is a node which has nodes of its own: at its end it says whether its answer lacks data.
type levelNode struct {
	*fakeNode
	lacks bool
}

func (n levelNode) Search(ctx context.Context, q *model.SearchQuery) (storageapi.SeriesIterator, error) {
	it, err := n.fakeNode.Search(ctx, q)
	return &levelIterator{SeriesIterator: it, lacks: n.lacks}, err
}

type levelIterator struct {
	storageapi.SeriesIterator
	lacks, ended bool
}

func (it *levelIterator) Next() bool {
	it.ended = !it.SeriesIterator.Next()
	return !it.ended
}

func (it *levelIterator) Coverage() storageapi.Coverage {
	return storageapi.Coverage{Open: !it.ended, Partial: it.ended && it.lacks}
}

// TestSlowLevels has storage nodes and levels, of which some fail, some lack data, and some are slow. An answer is partial exactly when one that waits
// for all is, and it has everything when it is not.
func TestSlowLevels(t *testing.T) {
	rng := newRand(t)
	skipped, needed := 0, 0
	for round := 0; round < 300 || round < 3000 && (skipped == 0 || needed == 0); round++ {
		synctest.Test(t, func(t *testing.T) {
			factor, series := 1+rng.IntN(3), 1+rng.IntN(400)
			nodes := replicate(rng, factor+rng.IntN(3), factor, series)
			list, bad := named(nodes...), 0
			for i, n := range nodes {
				level, lacks := rng.IntN(2) == 0, rng.IntN(4) == 0
				switch {
				case rng.IntN(6) == 0:
					n.streamErr, n.failAfter = errkind.New(errkind.Unavailable, "gone"), rng.IntN(1+len(n.series))
					bad++
				case level && lacks:
					n.series = slices.DeleteFunc(slices.Clone(n.series), func(storageapi.Series) bool { return rng.IntN(3) == 0 })
					bad++
				}
				if level {
					list[i].Searcher = levelNode{n, lacks}
				}
				if rng.IntN(2) == 0 {
					n.block, n.blockAt = make(chan struct{}), rng.IntN(1+len(n.series))
					time.AfterFunc(time.Duration(rng.IntN(1000))*time.Millisecond, func() { close(n.block) })
				}
			}
			g, err := New(Options{Nodes: list, Config: skipping(factor), Logger: logger.Discard(), Metrics: metrics.NewSet()})
			if err != nil {
				t.Fatal(err)
			}
			it, err := g.Search(t.Context(), &model.SearchQuery{})
			if err != nil {
				t.Fatal(err)
			}
			found := 0
			for it.Next() {
				found++
				time.Sleep(time.Duration(rng.IntN(5)) * time.Millisecond)
			}
			cov := it.Coverage()
			switch {
			case it.Err() != nil:
				if bad < len(nodes) {
					t.Fatalf("%v, although %d of %d nodes are well", it.Err(), len(nodes)-bad, len(nodes))
				}
			case cov.Partial != (bad >= factor) || cov.Open:
				t.Fatalf("%d copies, %d of %d nodes fail or lack data: %+v", factor, bad, len(nodes), cov)
			case !cov.Partial && found != series:
				t.Fatalf("%d of %d series, %+v", found, series, cov)
			}
			skipped += int(g.skipped.Get())
			if bad > 0 && !cov.Partial {
				needed++
			}
			closeAll(t, it, nodes)
		})
	}
}
