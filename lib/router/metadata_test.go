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

// refusing takes no metadata.
type refusing struct{ calls int }

func (r *refusing) AddMetadata(context.Context, []model.Metadata) error {
	r.calls++
	return errkind.New(errkind.Unavailable, "it is away")
}

func newMetadataRouter(t *testing.T, writers ...storageapi.MetadataWriter) *Router {
	t.Helper()
	var nodes []Node
	for i, w := range writers {
		nodes = append(nodes, Node{Name: fmt.Sprint("node-", i), Metadata: w})
	}
	r, err := New(Options{Nodes: nodes, Logger: logger.Discard(), Metrics: metrics.NewSet()})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestMetadataConformance writes through the router and reads through gather.
func TestMetadataConformance(t *testing.T) {
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d nodes", n), func(t *testing.T) {
			apitest.RunMetadata(t, func(t *testing.T) apitest.MetadataTarget {
				var writers []storageapi.MetadataWriter
				var nodes []gather.Node
				for i := range n {
					m := apitest.NewMemory()
					writers = append(writers, m)
					nodes = append(nodes, gather.Node{Name: fmt.Sprint("node-", i), Metadata: m})
				}
				g, err := gather.New(gather.Options{Nodes: nodes, Logger: logger.Discard(), Metrics: metrics.NewSet()})
				if err != nil {
					t.Fatal(err)
				}
				return apitest.MetadataTarget{Writer: newMetadataRouter(t, writers...), Reader: g}
			})
		})
	}
}

func manyMetadata() []model.Metadata {
	var list []model.Metadata
	for i := range 100 {
		list = append(list, model.Metadata{Metric: fmt.Sprint("m", i)})
	}
	return list
}

// TestMetadataElsewhere has nodes which fail: all goes to the others, and each node gets some of it when all are well.
func TestMetadataElsewhere(t *testing.T) {
	a, b, bad := apitest.NewMemory(), apitest.NewMemory(), &refusing{}
	r := newMetadataRouter(t, a, bad, b, nil)
	if err := r.AddMetadata(t.Context(), manyMetadata()); err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, m := range []*apitest.Memory{a, b} {
		list, err := m.Metadata(t.Context(), &storageapi.MetadataQuery{})
		if err != nil || len(list.Items) < 20 {
			t.Errorf("a node has %d descriptions, error %v", len(list.Items), err)
		}
		total += len(list.Items)
	}
	if total != 100 || bad.calls != 1 {
		t.Errorf("%d descriptions are stored; the failing node was asked %d times", total, bad.calls)
	}
}

func TestMetadataNowhere(t *testing.T) {
	if err := newMetadataRouter(t, &refusing{}, &refusing{}).AddMetadata(t.Context(), manyMetadata()); errkind.Of(err) != errkind.Unavailable {
		t.Errorf("error %v", err)
	}
	if err := newMetadataRouter(t, nil).AddMetadata(t.Context(), manyMetadata()); errkind.Of(err) != errkind.Unavailable {
		t.Errorf("no node takes metadata: error %v", err)
	}
}

// TestMetadataPartial has a node which does not answer.
func TestMetadataPartial(t *testing.T) {
	m := apitest.NewMemory()
	if err := m.AddMetadata(t.Context(), manyMetadata()); err != nil {
		t.Fatal(err)
	}
	for _, deny := range []bool{false, true} {
		g, err := gather.New(gather.Options{
			Nodes:       []gather.Node{{Name: "well", Metadata: m}, {Name: "away", Metadata: away{}}},
			DenyPartial: deny, Logger: logger.Discard(), Metrics: metrics.NewSet(),
		})
		if err != nil {
			t.Fatal(err)
		}
		got, err := g.Metadata(t.Context(), &storageapi.MetadataQuery{Limit: 3})
		if deny && errkind.Of(err) != errkind.Unavailable || !deny && (err != nil || !got.Coverage.Partial || len(got.Items) != 3) {
			t.Errorf("deny %v: %+v, error %v", deny, got, err)
		}
	}
}

type away struct{}

func (away) Metadata(context.Context, *storageapi.MetadataQuery) (storageapi.MetadataList, error) {
	return storageapi.MetadataList{}, errkind.New(errkind.Unavailable, "it is away")
}
