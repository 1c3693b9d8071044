package insertrpc

import (
	"context"
	"fmt"
	"testing"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/flagvalue"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/storageapi/apitest"
	"vmcluster/lib/transport"
	"vmcluster/lib/transport/replay"
)

// moody is a store which refuses some of what it is asked.
type moody struct {
	*apitest.Memory
	calls int
}

func (m *moody) Ingest(ctx context.Context, b *model.Batch) error {
	m.calls++
	switch m.calls {
	case 4:
		return errkind.New(errkind.ReadOnly, "the disk is full").WithRetryAfter(time.Second)
	case 5:
		return errkind.New(errkind.Overloaded, "too much")
	case 6:
		return errkind.New(errkind.BadRequest, "what is this")
	}
	return m.Memory.Ingest(ctx, b)
}

// converse lets a client say everything it can say, and tells what came of it.
func converse(t *testing.T, c *Client, result func(text string)) {
	t.Helper()
	tell := func(err error) {
		result(fmt.Sprintf("%s, again after %s", errkind.Of(err), errkind.RetryAfterOf(err)))
	}
	descriptions := []model.Metadata{
		{Tenant: model.TenantID{AccountID: 1, ProjectID: 2}, Metric: "requests_total", Type: model.TypeCounter, Help: "Requests."},
		{Metric: "duration_seconds", Type: model.TypeHistogram, Unit: "seconds"},
	}
	for range 3 {
		for _, b := range goldenBatches(t) {
			tell(c.Ingest(t.Context(), b))
		}
		tell(c.AddMetadata(t.Context(), descriptions))
	}
}

// stored is what a store has after the conversation.
func stored(t *testing.T, m *apitest.Memory) string {
	t.Helper()
	text := contents(t, m)
	for _, tenant := range []model.TenantID{{}, {AccountID: 1, ProjectID: 2}} {
		list, err := m.Metadata(t.Context(), &storageapi.MetadataQuery{Tenant: tenant})
		if err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintf("%+v\n", list.Items)
	}
	return text
}

// TestOldAndNew plays recorded clients to the present server and recorded servers to the present client. Recordings are never changed; what nodes say
// once they can do more is added.
func TestOldAndNew(t *testing.T) {
	for _, r := range []struct {
		name   string
		server func(o *ServerOptions)
	}{
		{"session-v1-oldest", func(*ServerOptions) {}},
		{"session-v1-resets", func(o *ServerOptions) { o.Config.MaxDictBytes = 1 }},
	} {
		replay.Pair[*Client]{
			Name: r.name,
			Server: func(t *testing.T) (transport.Dialer, func() string) {
				n := newNode(t)
				n.serve(func(o *ServerOptions) {
					o.Ingester, o.Metadata = &moody{Memory: n.store}, n.store
					r.server(o)
				})
				return n.network.Dial, func() string { return stored(t, n.store) }
			},
			Client: func(dial transport.Dialer) *Client {
				o := ClientOptions{Addr: "node", Dial: dial}
				o.Config.Transport.PingInterval = flagvalue.Duration(24 * time.Hour)
				return NewClient(o)
			},
			Converse: converse,
		}.Test(t, *update)
	}
}
