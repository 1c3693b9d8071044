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
		return g.Versions(context.Background(), model.TenantID{}, model.TimeRange{})
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
