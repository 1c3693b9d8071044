package selectrpc

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/flagvalue"
	"vmcluster/lib/fragment"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/storageapi/apitest"
	"vmcluster/lib/trace"
	"vmcluster/lib/transport"
	"vmcluster/lib/transport/replay"
)

// scripted answers everything, always the same.
type scripted struct {
	*tracingStore
	*fakeCatalog
	*apitest.Memory // for what the others do not answer
	fixedReducer
	fakeVersioner
}

func newScripted(t *testing.T) *scripted {
	t.Helper()
	s := &scripted{
		tracingStore: &tracingStore{fake: fake{series: 3, blocks: 2, size: 5, coverage: goldenCoverage()}},
		fakeCatalog:  &fakeCatalog{status: goldenStatus(), names: goldenNameStats()},
		Memory:       apitest.NewMemory(),
		fixedReducer: fixedReducer{reduction: storageapi.Reduction{Results: []*fragment.Result{goldenResult()}}},
	}
	if err := s.AddMetadata(t.Context(), []model.Metadata{{Metric: "m", Type: model.TypeGauge, Unit: "seconds", Help: "h"}}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *scripted) Search(ctx context.Context, q *model.SearchQuery) (storageapi.SeriesIterator, error) {
	if q.MaxSeries == 1 {
		return nil, errkind.New(errkind.Unprocessable, "too many series").WithRetryAfter(time.Second)
	}
	return s.tracingStore.Search(ctx, q)
}

func (s *scripted) LabelNames(ctx context.Context, q *model.SearchQuery, limit int) (storageapi.Strings, error) {
	return s.tracingStore.LabelNames(ctx, q, limit)
}

func (s *scripted) LabelValues(context.Context, *model.SearchQuery, string, int) (storageapi.Strings, error) {
	return storageapi.Strings{Values: []string{"", "a", "ab", "abc", "b"}}, nil
}

func (s *scripted) Tenants(ctx context.Context, r model.TimeRange) (storageapi.Tenants, error) {
	return s.tracingStore.Tenants(ctx, r)
}

// converse lets a client ask everything it can ask, and tells what came of it.
func converse(ctx context.Context, c *Client, result func(text string)) {
	tell := func(what string, answer any, err error) {
		result(fmt.Sprintf("%s: %+v, %s, again after %s", what, answer, errkind.Of(err), errkind.RetryAfterOf(err)))
	}
	q := &goldenQuery().search
	search := func(q *model.SearchQuery) {
		it, err := c.Search(ctx, q)
		var series []string
		for err == nil && it.Next() {
			series = append(series, fmt.Sprintf("%x %+v", it.At().Key, it.At().Blocks))
		}
		if err != nil {
			tell("search", series, err)
			return
		}
		tell("search", fmt.Sprint(series, it.Coverage()), it.Err())
		_ = it.Close() // the error of the search says it
	}
	search(q)
	search(everything())
	search(&model.SearchQuery{MaxSeries: 1})
	if c.transport.Capabilities()&transport.CapabilityHistograms != 0 { // else the node is asked for what it knows, which older recordings do not have twice
		search(&model.SearchQuery{Histograms: model.HistogramParts})
	}
	names, err := c.LabelNames(ctx, q, 10)
	tell("label names", names, err)
	values, err := c.LabelValues(ctx, everything(), "job", 0)
	tell("label values", values, err)
	tenants, err := c.Tenants(ctx, q.Range)
	tell("tenants", tenants, err)
	tell("flush", "", c.Flush(ctx))
	tell("merge", "", c.Merge(ctx, "2026_11"))
	deleted, err := c.DeleteSeries(ctx, q)
	tell("delete", deleted, err)
	count, err := c.SeriesCount(ctx, q.Tenant)
	tell("count", count, err)
	status, err := c.Status(ctx, &storageapi.StatusQuery{Search: *q, TopN: 3, FocusLabel: "job"})
	tell("status", status, err)
	usage, err := c.NameStats(ctx, &storageapi.NameStatsQuery{MaxRequests: 5, Limit: 7, Pattern: "a.*"})
	tell("usage", usage, err)
	tell("reset usage", "", c.ResetNameStats(ctx))
	descriptions, err := c.Metadata(ctx, &storageapi.MetadataQuery{})
	tell("metadata", descriptions, err)
	reduced, err := c.Reduce(ctx, goldenFragment().fragment)
	var results []string
	for _, r := range reduced.Results {
		results = append(results, fmt.Sprintf("%+v", *r))
	}
	tell("reduce", fmt.Sprint(results, reduced.Coverage), err)
	versions, err := c.Versions(ctx, q.Tenant, q.Range)
	tell("versions", versions, err)
}

// ask is converse, with traces if both sides can.
func ask(t *testing.T, c *Client, result func(text string)) {
	t.Helper()
	eventually(t, "there is a connection", c.Reachable)
	root := trace.New(time.Now, time.Now(), "query")
	converse(root.Within(t.Context()), c, result)
	result("trace:" + steps(root.Node()))
}

func steps(n trace.Node) string {
	text := " [" + n.Message
	for _, child := range n.Children {
		text += steps(child)
	}
	return text + "]"
}

// TestOldAndNew plays recorded clients to the present server and recorded servers to the present client. Recordings are never changed; what nodes say
// once they can do more is added.
func TestOldAndNew(t *testing.T) {
	for name, capabilities := range map[string]uint64{
		"session-v1-oldest": 0, "session-v1-trace": transport.CapabilityTrace,
		"session-v1-histograms": transport.CapabilityTrace | transport.CapabilityHistograms} {
		replay.Pair[*Client]{
			Name:         name,
			Capabilities: capabilities,
			Server: func(t *testing.T) (transport.Dialer, func() string) {
				n, s := transport.NewMemoryNetwork(), newScripted(t)
				serve(t, network{dial: n.Dial, listen: inMemoryAt(n)}, ServerOptions{Searcher: s, Admin: s.Memory, Catalog: s.fakeCatalog, Reducer: &s.fixedReducer, Metadata: s.Memory, Versioner: &s.fakeVersioner})
				return n.Dial, func() string { return "" }
			},
			Client: func(dial transport.Dialer) *Client {
				return NewClient(ClientOptions{Addr: "node", Dial: dial, Config: transport.ClientConfig{PingInterval: flagvalue.Duration(24 * time.Hour)}})
			},
			Converse: ask,
		}.Test(t, *update)
	}
}

// inMemoryAt listens at the address "node".
func inMemoryAt(n *transport.MemoryNetwork) func(t *testing.T) net.Listener {
	return func(t *testing.T) net.Listener {
		ln, err := n.Listen("node")
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}
}
