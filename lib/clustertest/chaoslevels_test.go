package clustertest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"vmcluster/lib/gather"
	"vmcluster/lib/insertrpc"
	"vmcluster/lib/router"
	"vmcluster/lib/selectrpc"
)

// chaosLevel is a vminsert and a vmselect, on one host, before the storage nodes of a group: a cluster of a lower level. What they know of their nodes
// outlives the process, but for connections.
type chaosLevel struct {
	w       *chaos
	group   int
	host    string
	in      *chaosInsert
	sel     *chaosSelect
	up      bool
	inserts *insertrpc.Server
	selects *selectrpc.Server
	serving sync.WaitGroup
}

func (w *chaos) addLevel() {
	g := len(w.levels)
	l := &chaosLevel{w: w, group: g, host: fmt.Sprint("level", g)}
	nodes := w.place.inGroup(w.members, g)
	l.in = w.insertAt(l.host)
	l.in.router = l.in.newRouter(w.place.within[g], l.in.connect(nodes)[g])
	l.sel = w.selectAt(l.host)
	l.sel.gather = l.sel.newGather(l.sel.connect(nodes), w.place.readConfig(w.skips))
	w.levels = append(w.levels, l)
	l.start()
}

// start serves the level.
func (l *chaosLevel) start() {
	if l.up {
		return
	}
	l.up = true
	g := l.sel.gather
	l.inserts = insertrpc.NewServer(insertrpc.ServerOptions{Ingester: l.in.router, Logger: l.w.logger, Metrics: l.in.set, Budget: l.in.budget})
	l.selects = selectrpc.NewServer(selectrpc.ServerOptions{
		Searcher: g, Catalog: g, Reducer: g, Versioner: g, Name: "vmselect", Level: true, Config: selectrpc.ServerConfig{MaxConcurrentRequests: 16}, Logger: l.w.logger, Metrics: l.sel.set,
	})
	l.w.net.join(l.host)
	l.serve(":8400", l.inserts.Serve)
	l.serve(":8401", l.selects.Serve)
}

func (l *chaosLevel) serve(port string, serve func(net.Listener) error) {
	ln, err := l.w.net.listen(l.host + port)
	if err != nil {
		l.w.failf("%s", err)
		return
	}
	l.serving.Go(func() { _ = serve(ln) }) // ends when the server is closed
}

// die is the end of the process, or of its power.
func (l *chaosLevel) die(power bool) {
	if !l.up {
		return
	}
	l.up = false
	l.w.net.cut(l.host, power)
	l.inserts.Close()
	l.selects.Close()
	l.serving.Wait()
}

// loseLevel kills a level.
func (w *chaos) loseLevel() (string, func()) {
	if len(w.levels) == 0 {
		return "", nil
	}
	w.count("a level lost")
	l, power := w.levels[w.rng.IntN(len(w.levels))], w.rng.IntN(2) == 0
	l.die(power)
	return fmt.Sprintf("%s is killed, power failure: %t", l.host, power), l.start
}

// aboveLevels makes a vminsert write to the levels.
func (in *chaosInsert) aboveLevels() {
	w := in.w
	in.listed = w.members
	var nodes []router.Node
	for _, l := range w.levels {
		c := insertrpc.NewClient(insertrpc.ClientOptions{
			Addr: l.host + ":8400", Dial: w.net.dialer(in.host), Config: insertrpc.ClientConfig{Transport: w.transportConfig(in.host, l.host)}, Logger: w.logger, Metrics: in.set, Budget: in.budget,
		})
		in.above = append(in.above, c)
		nodes = append(nodes, router.Node{Name: c.Addr(), Ingester: c, Reachable: c.Reachable})
	}
	in.router = in.newRouter(w.place.across, nodes)
}

// aboveLevels makes a vmselect read from the levels.
func (s *chaosSelect) aboveLevels() {
	w := s.w
	s.listed = w.members
	s.lists = [][]int{w.members}
	var nodes []gather.Node
	for _, l := range w.levels {
		c := selectrpc.NewClient(selectrpc.ClientOptions{Addr: l.host + ":8401", Dial: w.net.dialer(s.host), Config: w.transportConfig(s.host, l.host), Logger: w.logger, Metrics: s.set})
		s.above = append(s.above, c)
		nodes = append(nodes, gather.Node{Name: c.Addr(), Searcher: c, Catalog: c, Reducer: c, Metadata: c, Versioner: c})
	}
	s.gather = s.newGather(nodes, gather.Config{ReplicationFactor: gather.Factors{Default: w.place.across}, SkipSlowReplicas: w.skips})
}

// levelsConnected returns an error unless a node above levels, and all levels, have their connections.
func levelsConnected[C interface{ Reachable() bool }](w *chaos, above []C) error {
	for i, c := range above {
		l := w.levels[i]
		if err := errors.Join(connected(l.in.clients, l.in.listed), connected(l.sel.clients, l.sel.listed)); err != nil || !c.Reachable() {
			return fmt.Errorf("%s has no connection, or is not connected: %w", l.host, err)
		}
	}
	return nil
}

// incomplete is how many rows were counted as such at all levels.
func (w *chaos) incomplete() (n int) {
	for _, in := range w.inserts {
		n += in.incomplete()
	}
	for _, l := range w.levels {
		n += l.in.incomplete()
	}
	return n
}

func (w *chaos) closeLevels() {
	for _, in := range w.inserts {
		for _, c := range in.above {
			_ = c.Close() // never fails
		}
	}
	for _, s := range w.selects {
		for _, c := range s.above {
			_ = c.Close() // never fails
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), chaosPatience)
	defer cancel()
	for _, l := range w.levels {
		if l.up {
			_ = l.inserts.Shutdown(ctx) // what does not end in time is cut off
			_ = l.selects.Shutdown(ctx)
			l.serving.Wait()
		}
		retireClients(l.in.clients, nil)
		retireClients(l.sel.clients, nil)
	}
}
