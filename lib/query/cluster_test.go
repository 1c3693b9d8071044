package query_test

import (
	"context"
	"math/rand/v2"
	"testing"

	"vmcluster/lib/clustertest"
	"vmcluster/lib/model"
	"vmcluster/lib/query"
	"vmcluster/lib/querysource"
	"vmcluster/lib/storageapi/apitest"
)

// TestPropertyClusters checks that clusters of one to four nodes, which have some series in common, answer random queries like one
// process does over the same series in memory, to the bit: with their series read, and with what the nodes evaluate.
func TestPropertyClusters(t *testing.T) {
	queries, failed, pushed := 0, 0, uint64(0)
	eachNumber := func(rng *rand.Rand, nodes int) {
		series, memory := query.OddFleet(rng, 30+rng.IntN(100), apitest.DefaultBase)
		c := clustertest.New(t, nodes)
		spread(t, rng, c, series)
		cluster := query.EngineOver(t, querysource.New(c.Searcher, c.Reducer, query.Reading{}))
		single, next := query.EngineOver(t, memory), query.RandomQueries(rng)
		for range 40 {
			r := query.Request{Query: next(), NoCache: true, Start: apitest.DefaultBase - 60_000 + rng.Int64N(1_500_000), Step: 5000 + rng.Int64N(60_000)}
			r.End = r.Start + rng.Int64N(20)*r.Step
			ask := (*query.Engine).QueryRange
			if rng.IntN(3) == 0 {
				ask = (*query.Engine).Query
			}
			want, wantErr := ask(single, context.Background(), &r)
			for _, r.NoPushDown = range []bool{false, true} {
				got, err := ask(cluster, context.Background(), &r)
				if (err == nil) != (wantErr == nil) || err == nil && !query.SameBits(got, want) {
					t.Errorf("%d nodes, %s at %d, to %d with step %d, all read: %v\ngot  %s%v\nwant %s%v", nodes, r.Query, r.Start, r.End, r.Step, r.NoPushDown, got, err, want, wantErr)
				}
			}
			if queries++; wantErr != nil {
				failed++
			}
		}
		pushed += query.Pushed(cluster)
	}
	query.EachRound(t, 2, func(rng *rand.Rand) {
		for nodes := 1; nodes <= 4; nodes++ {
			eachNumber(rng, nodes)
		}
	})
	t.Logf("%d queries, %d are errors, %d fragments evaluated by nodes", queries, failed, pushed)
	if pushed == 0 || failed > queries/2 {
		t.Error("the queries test little")
	}
}

// spread stores each series on one node or, whole or in parts which may overlap, on two.
func spread(t *testing.T, rng *rand.Rand, c *clustertest.Cluster, series []*query.RawSeries) {
	t.Helper()
	shared := rng.IntN(4) // of ten
	for _, s := range series {
		home, n := rng.IntN(len(c.Nodes)), len(s.Values)
		from, to := 0, n
		if len(c.Nodes) > 1 && rng.IntN(10) < shared {
			from = rng.IntN(n + 1)
			to = from + rng.IntN(n-from+1)
			store(t, c.Nodes[(home+1)%len(c.Nodes)], s, from, n)
			from = 0
		}
		store(t, c.Nodes[home], s, from, to)
	}
	for _, n := range c.Nodes {
		if rng.IntN(2) == 0 {
			if err := n.Storage.Flush(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func store(t *testing.T, n *clustertest.Node, s *query.RawSeries, from, to int) {
	t.Helper()
	if from == to {
		return
	}
	var b model.Batch
	if err := b.AddSeries(model.TenantID{}, append([]model.Label(nil), s.Labels...)); err != nil {
		t.Fatal(err)
	}
	for i := from; i < to; i++ {
		b.AddSample(s.Timestamps[i], s.Values[i])
	}
	if err := n.Storage.Ingest(context.Background(), &b); err != nil {
		t.Fatal(err)
	}
}
