package main

import (
	"vmcluster/lib/insertrpc"
	"vmcluster/lib/nodelist"
	"vmcluster/lib/router"
	"vmcluster/lib/service"
)

// connect finds the storage nodes and returns a router over them, which follows their changes.
func (c *component) connect(env *service.Env) (*router.Router, error) {
	pool, members, err := nodelist.NewPool(nodelist.PoolOptions[*insertrpc.Client]{
		Options: nodelist.Options{Config: &c.nodes, DefaultPort: "8400", Logger: env.Logger, Metrics: env.Metrics},
		Connect: func(n nodelist.Node) *insertrpc.Client {
			return insertrpc.NewClient(insertrpc.ClientOptions{
				Addr: n.Name, Dial: n.DialContext, Config: insertrpc.ClientConfig{Transport: c.transport},
				Logger: env.Logger, Metrics: env.Metrics, Budget: env.Budget,
			})
		},
		Forget: (*insertrpc.Client).RemoveMetrics,
	})
	if err != nil {
		return nil, err
	}
	env.OnStop("connections to storage nodes", pool.Close)
	c.router.HangTimeout = c.transport.UserTimeout.D()
	spread, err := router.New(router.Options{Config: c.router, Nodes: nodesOf(members), Logger: env.Logger, Metrics: env.Metrics, Budget: env.Budget})
	if err != nil {
		return nil, err
	}
	pool.Follow(func(members []nodelist.Member[*insertrpc.Client]) (<-chan struct{}, error) {
		return spread.SetNodes(nodesOf(members))
	})
	return spread, nil
}

// nodesOf leaves groups out: they matter to readers only.
func nodesOf(members []nodelist.Member[*insertrpc.Client]) []router.Node {
	var nodes []router.Node
	for _, m := range members {
		nodes = append(nodes, router.Node{Name: m.Name, Ingester: m.Conn, Metadata: m.Conn, Exemplars: m.Conn, Starts: m.Conn, Reachable: m.Conn.Reachable})
	}
	return nodes
}
