package nodelist

import (
	"context"
	"errors"
	"io"
	"sync"
)

// Member is a listed node with the connection to it.
type Member[C io.Closer] struct {
	Node
	Conn C
}

// PoolOptions say how a pool connects.
type PoolOptions[C io.Closer] struct {
	Options
	// Connect begins to connect to a node.
	Connect func(n Node) C
	// Forget is called after the connection of a node which is gone was closed; nil does nothing.
	Forget func(conn C)
}

// Pool holds a connection to each listed node, and to former ones as long as they are in use.
type Pool[C io.Closer] struct {
	o      PoolOptions[C]
	list   *List
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu struct {
		sync.Mutex
		conns   map[string]C // by address as given
		listed  map[string]bool
		changes int
	}
}

// NewPool finds the nodes and connects to them.
func NewPool[C io.Closer](o PoolOptions[C]) (*Pool[C], []Member[C], error) {
	list, err := New(context.Background(), o.Options)
	if err != nil {
		return nil, nil, err
	}
	p := &Pool[C]{o: o, list: list}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.mu.conns = map[string]C{}
	members, _ := p.take(list.Nodes())
	o.Metrics.Gauge("vm_storage_nodes", func() float64 { return float64(p.count()) })
	return p, members, nil
}

// Follow hands other nodes to use whenever the list changes. Use returns a channel which is closed when no former list is
// in use any more: then the connections to nodes which are gone are closed.
func (p *Pool[C]) Follow(use func([]Member[C]) (unused <-chan struct{}, err error)) {
	p.wg.Go(func() { p.list.Run(p.ctx, func(nodes []Node) error { return p.change(nodes, use) }) })
}

// take makes the nodes the listed ones and connects to those that are new.
func (p *Pool[C]) take(nodes []Node) (members []Member[C], change int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.changes++
	p.mu.listed = map[string]bool{}
	for _, n := range nodes {
		conn, ok := p.mu.conns[n.Name]
		if !ok {
			conn = p.o.Connect(n)
			p.mu.conns[n.Name] = conn
		}
		p.mu.listed[n.Name] = true
		members = append(members, Member[C]{Node: n, Conn: conn})
	}
	return members, p.mu.changes
}

func (p *Pool[C]) change(nodes []Node, use func([]Member[C]) (<-chan struct{}, error)) error {
	members, change := p.take(nodes)
	unused, err := use(members)
	if err != nil {
		return err
	}
	p.wg.Go(func() {
		select {
		case <-unused:
			p.forget(change)
		case <-p.ctx.Done():
		}
	})
	return nil
}

// forget closes the connections to nodes which are not listed, unless there was another change: that one does it later, since
// the list between may be in use.
func (p *Pool[C]) forget(change int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if change != p.mu.changes {
		return
	}
	for name, conn := range p.mu.conns {
		if p.mu.listed[name] {
			continue
		}
		if err := conn.Close(); err != nil {
			p.o.Logger.Warnf("cannot close connection to storage node %q: %s", name, err)
		}
		if p.o.Forget != nil {
			p.o.Forget(conn)
		}
		delete(p.mu.conns, name)
	}
}

// count returns the number of listed nodes.
func (p *Pool[C]) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.mu.listed)
}

// Close ends all connections. There are no changes afterwards.
func (p *Pool[C]) Close() error {
	p.cancel()
	p.wg.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, conn := range p.mu.conns {
		errs = append(errs, conn.Close())
	}
	return errors.Join(errs...)
}
