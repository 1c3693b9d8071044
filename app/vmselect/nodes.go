package main

import (
	"context"

	"vmcluster/lib/gather"
	"vmcluster/lib/nodelist"
	"vmcluster/lib/selectrpc"
	"vmcluster/lib/service"
)

// connect finds the storage nodes and returns a gather over them, which follows their changes.
func (c *component) connect(env *service.Env) (searcher *gather.Gather, err error) {
	list, err := nodelist.New(context.Background(), nodelist.Options{Config: &c.nodes, DefaultPort: "8401", Logger: env.Logger, Metrics: env.Metrics})
	if err != nil {
		return nil, err
	}
	pool := nodelist.NewPool(nodelist.PoolOptions[*selectrpc.Client]{
		List: list, Logger: env.Logger, Forget: (*selectrpc.Client).RemoveMetrics,
		Connect: func(n nodelist.Node) *selectrpc.Client {
			return selectrpc.NewClient(selectrpc.ClientOptions{Addr: n.Name, Dial: n.DialContext, Config: c.transport, Logger: env.Logger, Metrics: env.Metrics})
		},
	})
	env.OnStop("connections to storage nodes", pool.Close)
	env.Metrics.Gauge("vm_storage_nodes", func() float64 { return float64(pool.Len()) })
	err = pool.Start(func(members []nodelist.Member[*selectrpc.Client]) (err error) {
		searcher, err = gather.New(gather.Options{Nodes: nodesOf(members), Config: c.gather, Logger: env.Logger, Metrics: env.Metrics})
		return err
	}, func(members []nodelist.Member[*selectrpc.Client]) (<-chan struct{}, error) {
		return searcher.SetNodes(nodesOf(members))
	})
	return searcher, err
}

func nodesOf(members []nodelist.Member[*selectrpc.Client]) []gather.Node {
	var nodes []gather.Node
	for _, m := range members {
		nodes = append(nodes, gather.Node{Name: m.String(), Group: m.Group, Searcher: m.Conn, Catalog: m.Conn, Reducer: m.Conn, Metadata: m.Conn})
	}
	return nodes
}
