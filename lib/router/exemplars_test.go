package router

import (
	"context"
	"fmt"
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/gather"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/storageapi/apitest"
)

// unwilling takes and has no exemplars.
type unwilling struct{ err error }

func (u unwilling) AddExemplars(context.Context, []model.Exemplar) error { return u.err }

func (u unwilling) Exemplars(context.Context, *storageapi.ExemplarQuery) (storageapi.ExemplarList, error) {
	return storageapi.ExemplarList{}, u.err
}

type exemplarNode interface {
	storageapi.ExemplarWriter
	storageapi.ExemplarReader
}

func exemplarCluster(t *testing.T, copies int, nodes ...exemplarNode) apitest.ExemplarTarget {
	t.Helper()
	var to []Node
	var from []gather.Node
	for i, n := range nodes {
		to, from = append(to, Node{Name: fmt.Sprint("node-", i), Exemplars: n}), append(from, gather.Node{Name: fmt.Sprint("node-", i), Exemplars: n})
	}
	r, err := New(Options{Config: Config{ReplicationFactor: copies}, Nodes: to, Logger: logger.Discard(), Metrics: metrics.NewSet()})
	if err != nil {
		t.Fatal(err)
	}
	g, err := gather.New(gather.Options{Config: gather.Config{ReplicationFactor: gather.Factors{Default: copies}}, Nodes: from, Logger: logger.Discard(), Metrics: metrics.NewSet()})
	if err != nil {
		t.Fatal(err)
	}
	return apitest.ExemplarTarget{Writer: r, Reader: g}
}

// TestExemplarConformance writes through the router and reads through gather.
func TestExemplarConformance(t *testing.T) {
	for _, c := range []struct{ nodes, copies int }{{1, 1}, {3, 1}, {3, 2}} {
		t.Run(fmt.Sprintf("%d nodes, %d copies", c.nodes, c.copies), func(t *testing.T) {
			apitest.RunExemplars(t, func(t *testing.T) apitest.ExemplarTarget {
				var nodes []exemplarNode
				for range c.nodes {
					nodes = append(nodes, apitest.NewMemory())
				}
				return exemplarCluster(t, c.copies, nodes...)
			})
		})
	}
}

func manyExemplars() (list []model.Exemplar) {
	for i := range 100 {
		list = append(list, apitest.Exemplar(model.TenantID{}, fmt.Sprintf("m%02d", i), "x", fmt.Sprint(i), int64(i)))
	}
	return list
}

// TestExemplarsGoWithSamples compares with the nodes that samples of the same series go to.
func TestExemplarsGoWithSamples(t *testing.T) {
	var nodes []Node
	var stores []*apitest.Memory
	for i := range 5 {
		m := apitest.NewMemory()
		stores = append(stores, m)
		nodes = append(nodes, Node{Name: fmt.Sprint("node-", i), Ingester: m, Exemplars: m})
	}
	r, err := New(Options{Config: Config{ReplicationFactor: 2}, Nodes: nodes, Logger: logger.Discard(), Metrics: metrics.NewSet()})
	if err != nil {
		t.Fatal(err)
	}
	list := manyExemplars()
	var b model.Batch
	for i := range list {
		b.AddKey(list[i].Series, model.HashSeriesKey(list[i].Series))
		b.AddSample(list[i].Timestamp, 1)
	}
	if err := r.Ingest(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	if err := r.AddExemplars(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	for i, m := range stores {
		found, err := m.Exemplars(t.Context(), apitest.ExemplarQuery(model.TenantID{}))
		if err != nil {
			t.Fatal(err)
		}
		if len(found.Items) != m.Rows() || m.Rows() < 10 {
			t.Errorf("node %d has %d exemplars and %d samples", i, len(found.Items), m.Rows())
		}
	}
}

// TestExemplarsElsewhere has nodes which fail, or are too old: all goes to others, in as many copies.
func TestExemplarsElsewhere(t *testing.T) {
	a, b := apitest.NewMemory(), apitest.NewMemory()
	away := unwilling{errkind.New(errkind.Unavailable, "it is away")}
	old := unwilling{errkind.New(errkind.Unsupported, "it is old")}
	target := exemplarCluster(t, 2, a, away, old, b)
	list := manyExemplars()
	if err := target.Writer.AddExemplars(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	for i, m := range []*apitest.Memory{a, b} {
		found, err := m.Exemplars(t.Context(), apitest.ExemplarQuery(model.TenantID{}))
		if err != nil || !apitest.SameExemplars(found.Items, list) {
			t.Errorf("node %d has %d exemplars, %v", i, len(found.Items), err)
		}
	}
	if err := exemplarCluster(t, 1, away, old).Writer.AddExemplars(t.Context(), list); errkind.Of(err) != errkind.Unavailable {
		t.Errorf("nobody takes exemplars: error %v", err)
	}
}

// TestExemplarsPartial has a node that does not answer, and one which is too old to have any.
func TestExemplarsPartial(t *testing.T) {
	m := apitest.NewMemory()
	list := manyExemplars()
	if err := m.AddExemplars(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	away := unwilling{errkind.New(errkind.Unavailable, "it is away")}
	old := unwilling{errkind.New(errkind.Unsupported, "it is old")}
	for _, c := range []struct {
		copies  int
		nodes   []exemplarNode
		partial bool
	}{{1, []exemplarNode{m, away}, true}, {2, []exemplarNode{m, away, m}, false}, {1, []exemplarNode{m, old}, false}} {
		found, err := exemplarCluster(t, c.copies, c.nodes...).Reader.Exemplars(t.Context(), apitest.ExemplarQuery(model.TenantID{}))
		if err != nil || found.Coverage.Partial != c.partial || !apitest.SameExemplars(found.Items, list) {
			t.Errorf("%+v: %d exemplars, partial %v, %v", c, len(found.Items), found.Coverage.Partial, err)
		}
	}
}
