package replay

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"vmcluster/lib/transport"
)

// Pair is a recording, testdata/<Name>.txt, with the present client and server to play it to.
type Pair[C io.Closer] struct {
	Name         string
	Capabilities uint64 // of the client
	// Server starts a server at "node" that answers always the same and ends with the test. Stored is what it has stored.
	Server func(t *testing.T) (dial transport.Dialer, stored func() string)
	// Client returns a client of "node" that says nothing of its own accord. It may be closed twice.
	Client func(dial transport.Dialer) C
	// Converse lets a client say everything it can say, and tells what came of it.
	Converse func(t *testing.T, c C, result func(text string))
}

// Test plays the recorded client to the present server and the recorded server to the present client. With update it makes the recording anew, which
// is wrong once a version that said it has left the house: see docs/design/0033-old-and-new.md.
func (p Pair[C]) Test(t *testing.T, update bool) {
	path := filepath.Join("testdata", p.Name+".txt")
	if update {
		p.record(t, path)
	}
	session, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Run(p.Name+", present server", func(t *testing.T) { p.playOldClient(t, session) })
	t.Run(p.Name+", present client", func(t *testing.T) { p.playOldServer(t, session) })
}

// talk is a conversation of the present client.
func (p Pair[C]) talk(t *testing.T, dial transport.Dialer, result func(text string)) {
	c := p.Client(dial)
	p.Converse(t, c, result)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func (p Pair[C]) record(t *testing.T, path string) {
	synctest.Test(t, func(t *testing.T) {
		dial, _ := p.Server(t)
		r := &Recorder{Capabilities: p.Capabilities}
		p.talk(t, r.Dialer(dial), r.Result)
		if err := os.WriteFile(path, []byte(r.Session().Text()), 0o644); err != nil {
			t.Fatal(err)
		}
	})
}

func (p Pair[C]) playOldClient(t *testing.T, session *Session) {
	var direct string
	synctest.Test(t, func(t *testing.T) {
		dial, stored := p.Server(t)
		p.talk(t, dial, func(string) {})
		direct = stored()
	})
	synctest.Test(t, func(t *testing.T) {
		dial, stored := p.Server(t)
		conn, err := dial(t.Context(), "node")
		if err != nil {
			t.Fatal(err)
		}
		if err := session.PlayClient(conn); err != nil {
			t.Error(err)
		}
		_ = conn.Close()
		if got := stored(); got != direct {
			t.Errorf("an old client has stored\n%s\nand a present one\n%s", got, direct)
		}
	})
}

func (p Pair[C]) playOldServer(t *testing.T, session *Session) {
	synctest.Test(t, func(t *testing.T) {
		dial, done := session.PlayServer()
		var got []string
		p.talk(t, dial, func(text string) { got = append(got, text) })
		if want := session.Results(); !slices.Equal(got, want) {
			t.Errorf("the caller got\n%s\nand once\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
