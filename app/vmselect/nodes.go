package main

import (
	"vmcluster/lib/gather"
	"vmcluster/lib/nodelist"
	"vmcluster/lib/selectrpc"
	"vmcluster/lib/service"
)

// connect finds the storage nodes and returns a gather over them, which follows their changes.
func (c *component) connect(env *service.Env) (*gather.Gather, error) {
	pool, members, err := nodelist.NewPool(nodelist.PoolOptions[*selectrpc.Client]{
		Options: nodelist.Options{Config: &c.nodes, DefaultPort: "8401", Logger: env.Logger, Metrics: env.Metrics},
		Connect: func(n nodelist.Node) *selectrpc.Client {
			return selectrpc.NewClient(selectrpc.ClientOptions{Addr: n.Name, Dial: n.DialContext, Config: c.transport, Logger: env.Logger, Metrics: env.Metrics})
		},
		Forget: (*selectrpc.Client).RemoveMetrics,
	})
	if err != nil {
		return nil, err
	}
	env.OnStop("connections to storage nodes", pool.Close)
	searcher, err := gather.New(gather.Options{Nodes: nodesOf(members), Config: c.gather, Logger: env.Logger, Metrics: env.Metrics})
	if err != nil {
		return nil, err
	}
	pool.Follow(func(members []nodelist.Member[*selectrpc.Client]) (<-chan struct{}, error) {
		return searcher.SetNodes(nodesOf(members))
	})
	return searcher, nil
}

func nodesOf(members []nodelist.Member[*selectrpc.Client]) []gather.Node {
	var nodes []gather.Node
	for _, m := range members {
		nodes = append(nodes, gather.Node{Name: m.String(), Group: m.Group, Searcher: m.Conn, Catalog: m.Conn, Reducer: m.Conn, Metadata: m.Conn, Exemplars: m.Conn, Versioner: m.Conn})
	}
	return nodes
}
