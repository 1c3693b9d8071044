package gather

import (
	"context"
	"fmt"
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
)

type fakeVersioner struct {
	list []storageapi.Version
	err  error
}

func (f *fakeVersioner) Versions(context.Context, model.TenantID, model.TimeRange) ([]storageapi.Version, error) {
	return f.list, f.err
}

func TestVersions(t *testing.T) {
	one, two := &fakeVersioner{list: []storageapi.Version{{Instance: 1}}}, &fakeVersioner{list: []storageapi.Version{{Instance: 2}, {Instance: 3}}}
	ask := func(versioners ...storageapi.Versioner) ([]storageapi.Version, error) {
		o := Options{Logger: logger.Discard(), Metrics: metrics.NewSet(), Config: Config{ReplicationFactor: Factors{}}}
		for i, v := range versioners {
			o.Nodes = append(o.Nodes, Node{Name: fmt.Sprint("node", i), Searcher: &fakeNode{}, Versioner: v})
		}
		g, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		list, err := g.Versions(context.Background(), model.TenantID{}, model.TimeRange{})
		for i := range list {
			list[i].Instance ^= g.mu.set.number
		}
		return list, err
	}
	if list, err := ask(two, one, two); err != nil || fmt.Sprint(list) != fmt.Sprint(append(append(two.list[:2:2], one.list...), two.list...)) {
		t.Errorf("%v, %v", list, err)
	}
	down := &fakeVersioner{err: errkind.New(errkind.Unavailable, "down")}
	if list, err := ask(one, down, two); errkind.Of(err) != errkind.Unavailable || list != nil {
		t.Errorf("with a node down: %v, %v", list, err)
	}
	if list, err := ask(one, nil); errkind.Of(err) != errkind.Unsupported || list != nil {
		t.Errorf("with an older node: %v, %v", list, err)
	}
}

// TestVersionsOfAnotherList replaces the nodes by themselves. What was kept before may be what only some of them had, if there was
// another list while it was read.
func TestVersionsOfAnotherList(t *testing.T) {
	nodes := []Node{{Name: "a", Versioner: &fakeVersioner{list: []storageapi.Version{{Instance: 1}}}}}
	g, err := New(Options{Nodes: nodes, Logger: logger.Discard(), Metrics: metrics.NewSet()})
	if err != nil {
		t.Fatal(err)
	}
	ask := func() uint64 {
		list, err := g.Versions(context.Background(), model.TenantID{}, model.TimeRange{})
		if err != nil {
			t.Fatal(err)
		}
		return list[0].Instance
	}
	before := ask()
	if again := ask(); again != before {
		t.Errorf("the versions of an unchanged list are of instance %d, and of %d", before, again)
	}
	if number, names := g.Stores(); before^number != 1 || len(names) != 1 || names[0] != "a" {
		t.Errorf("the stores have number %d, which is not in instance %d, or are called %q", number, before, names)
	}
	if _, err := g.SetNodes(nodes); err != nil {
		t.Fatal(err)
	}
	after := ask()
	if after == before {
		t.Error("a new list does not change the instance")
	}
	if number, _ := g.Stores(); after^number != 1 {
		t.Errorf("the stores have number %d after a change, which is not in instance %d", number, after)
	}
}
