package insertrpc

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/flagvalue"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/storageapi/apitest"
	"vmcluster/lib/transport"
	"vmcluster/lib/transport/replay"
)

// recording is a session between nodes of one version, in testdata.
type recording struct {
	name         string
	capabilities uint64 // of the client
	server       func(o *ServerOptions)
}

// recordings are never changed; what nodes say once they can do more is added.
func recordings() []recording {
	return []recording{
		{name: "session-v1-oldest", server: func(*ServerOptions) {}},
		{name: "session-v1-resets", server: func(o *ServerOptions) { o.Config.MaxDictBytes = 1 }},
	}
}

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

// inSession runs f in a bubble, with a server in front of a store of moods; dial leads to the server.
func inSession(t *testing.T, r recording, f func(t *testing.T, dial transport.Dialer, store *moody)) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		store := &moody{Memory: n.store}
		n.serve(func(o *ServerOptions) {
			o.Ingester, o.Metadata = store, n.store
			r.server(o)
		})
		f(t, n.network.Dial, store)
	})
}

// speaker returns a client that says nothing of its own accord.
func speaker(t *testing.T, dial transport.Dialer) *Client {
	o := ClientOptions{Addr: "node", Dial: dial}
	o.Config.Transport.PingInterval = flagvalue.Duration(24 * time.Hour)
	c := NewClient(o)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// TestOldAndNew plays recorded clients to the present server and recorded servers to the present client. With -update it makes the recordings
// anew, which is wrong once a version that said them has left the house: see docs/design/0033-old-and-new.md.
func TestOldAndNew(t *testing.T) {
	for _, r := range recordings() {
		path := filepath.Join("testdata", r.name+".txt")
		if *update {
			inSession(t, r, func(t *testing.T, dial transport.Dialer, _ *moody) {
				record := &replay.Recorder{Capabilities: r.capabilities}
				converse(t, speaker(t, record.Dialer(dial)), record.Result)
				if err := os.WriteFile(path, []byte(record.Session().Text()), 0o644); err != nil {
					t.Fatal(err)
				}
			})
		}
		session, err := replay.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(r.name+", present server", func(t *testing.T) { playOldClient(t, r, session) })
		t.Run(r.name+", present client", func(t *testing.T) { playOldServer(t, session) })
	}
}

func playOldClient(t *testing.T, r recording, session *replay.Session) {
	var direct string
	inSession(t, r, func(t *testing.T, dial transport.Dialer, store *moody) {
		converse(t, speaker(t, dial), func(string) {})
		direct = stored(t, store.Memory)
	})
	inSession(t, r, func(t *testing.T, dial transport.Dialer, store *moody) {
		conn, err := dial(t.Context(), "node")
		if err != nil {
			t.Fatal(err)
		}
		if err := session.PlayClient(conn); err != nil {
			t.Error(err)
		}
		_ = conn.Close()
		if got := stored(t, store.Memory); got != direct {
			t.Errorf("an old client has stored\n%s\nand a present one\n%s", got, direct)
		}
	})
}

func playOldServer(t *testing.T, session *replay.Session) {
	synctest.Test(t, func(t *testing.T) {
		dial, done := session.PlayServer()
		c := speaker(t, dial)
		var got []string
		converse(t, c, func(text string) { got = append(got, text) })
		if want := session.Results(); !slices.Equal(got, want) {
			t.Errorf("the caller got\n%q\nand once\n%q", got, want)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
