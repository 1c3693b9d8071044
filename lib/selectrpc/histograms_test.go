package selectrpc

import (
	"context"
	"testing"

	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/transport"
	"vmcluster/lib/transport/replay"
)

// choosyStore has other series for each choice of native histograms.
type choosyStore struct {
	storageapi.Searcher
	choices [3]fake
}

func (s *choosyStore) Search(ctx context.Context, q *model.SearchQuery) (storageapi.SeriesIterator, error) {
	return s.choices[q.Histograms].Search(ctx, q)
}

// TestHistogramsAreNegotiated: a node which knows native histograms is asked for them, also while nothing is known of it, and another one is asked for the rest.
func TestHistogramsAreNegotiated(t *testing.T) {
	for _, tc := range []struct {
		name      string
		older     bool
		connected bool
	}{{"new", false, true}, {"new, not connected yet", false, false}, {"old", true, true}, {"old, not connected yet", true, false}} {
		t.Run(tc.name, func(t *testing.T) {
			store := &choosyStore{}
			for i := range store.choices {
				store.choices[i] = fake{series: 3 + i, blocks: 1, size: 10}
			}
			n := inMemory()
			_, addr := serve(t, n, ServerOptions{Searcher: store})
			if tc.older {
				n.dial = (&replay.Recorder{Capabilities: transport.CapabilityTrace}).Dialer(n.dial)
			}
			c := dial(t, n, addr)
			if tc.connected {
				eventually(t, "there is a connection", c.Reachable)
			}
			for _, wanted := range []model.Histograms{model.HistogramParts, model.WithHistograms, model.NoHistograms} {
				q := everything()
				q.Histograms = wanted
				it, err := c.Search(t.Context(), q)
				if err != nil {
					t.Fatal(err)
				}
				want := &store.choices[wanted]
				if tc.older {
					want = &store.choices[model.NoHistograms]
				}
				if got, err := count(it, want); err != nil || got != want.series {
					t.Errorf("asked with %d: %d series, want %d: %v", wanted, got, want.series, err)
				}
				if err := it.Close(); err != nil {
					t.Error(err)
				}
				if q.Histograms != wanted {
					t.Error("the caller's query has changed")
				}
			}
		})
	}
}
