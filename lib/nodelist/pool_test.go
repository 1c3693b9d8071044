package nodelist

import (
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// fakeConn counts how often it is closed.
type fakeConn struct {
	name   string
	closed atomic.Int32
}

func (c *fakeConn) Close() error {
	c.closed.Add(1)
	return nil
}

// TestPool: connections to nodes that are gone live as long as any list that has them is in use; a node which comes back
// before keeps its connection.
func TestPool(t *testing.T) {
	file := filepath.Join(t.TempDir(), "nodes")
	write(t, file, "a:1\nb:1\n")
	synctest.Test(t, func(t *testing.T) {
		made := map[string][]*fakeConn{}
		var forgotten []string
		p, members, err := NewPool(PoolOptions[*fakeConn]{
			Options: listOptions(nil, "", "file:"+file),
			Connect: func(n Node) *fakeConn {
				c := &fakeConn{name: n.Name}
				made[n.Name] = append(made[n.Name], c)
				return c
			},
			Forget: func(c *fakeConn) { forgotten = append(forgotten, c.name) },
		})
		if err != nil {
			t.Fatal(err)
		}
		var lists []string
		var uses []chan struct{}
		listed := func(members []Member[*fakeConn]) {
			var nodes []Node
			for _, m := range members {
				nodes = append(nodes, m.Node)
				if m.Conn.name != m.Name || m.Conn.closed.Load() > 0 {
					t.Errorf("%s has the connection of %s, closed %d times", m.Name, m.Conn.name, m.Conn.closed.Load())
				}
			}
			lists = append(lists, text(nodes))
		}
		listed(members)
		p.Follow(func(members []Member[*fakeConn]) (<-chan struct{}, error) {
			listed(members)
			uses = append(uses, make(chan struct{}))
			return uses[len(uses)-1], nil
		})
		step := func(content string) {
			t.Helper()
			if content != "" {
				write(t, file, content)
			}
			time.Sleep(2 * time.Second)
			synctest.Wait()
		}
		step("b:1\n")      // a goes
		step("a:1\nb:1\n") // and is back while the first list is in use
		step("a:1\n")      // b goes; the list between is in use
		close(uses[0])     // nobody uses the first list
		close(uses[1])     // nor the second
		step("")
		if len(forgotten) != 0 || len(made["a:1"]) != 1 || made["b:1"][0].closed.Load() != 0 {
			t.Errorf("while a list with b is in use: %q are forgotten, %d connections were made to a", forgotten, len(made["a:1"]))
		}
		close(uses[2])
		step("")
		if !slices.Equal(forgotten, []string{"b:1"}) || made["b:1"][0].closed.Load() != 1 || p.count() != 1 {
			t.Errorf("when no former list is in use: %q are forgotten, %d nodes are left", forgotten, p.count())
		}
		step("a:1\nb:1\n")
		if want := []string{"a:1 b:1", "b:1", "a:1 b:1", "a:1", "a:1 b:1"}; !slices.Equal(lists, want) || len(made["b:1"]) != 2 {
			t.Errorf("the lists were %q; want %q; %d connections were made to b", lists, want, len(made["b:1"]))
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		for name, conns := range made {
			for _, c := range conns {
				if c.closed.Load() != 1 {
					t.Errorf("a connection to %s was closed %d times", name, c.closed.Load())
				}
			}
		}
	})
}
