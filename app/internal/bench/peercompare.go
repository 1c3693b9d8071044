package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"time"
)

// PeerCompareOptions say which two peers to compare with which dataset.
type PeerCompareOptions struct {
	Run       RunOptions // Peers names two, Datasets one
	Tolerance float64
}

// RegisterFlags registers the flags of `vmbench compare`.
func (o *PeerCompareOptions) RegisterFlags(fs *flag.FlagSet) {
	fs.StringVar(&o.Run.Peers, "peers", "ours-cluster,vm-single", "the two systems to compare, of "+PeerNames)
	fs.StringVar(&o.Run.Datasets, "dataset", "a", "folder of a dataset, or a name: "+DatasetNames)
	fs.Float64Var(&o.Tolerance, "tolerance", 1e-9, "relative difference of values that is accepted")
	o.Run.registerShared(fs)
}

// ComparePeers starts two peers, ingests a dataset into both and compares their answers to a query
// list value by value. It calls each after each query.
func ComparePeers(ctx context.Context, o PeerCompareOptions, each func(*Diff) error) (*Comparison, error) {
	peers := splitList(o.Run.Peers)
	if len(peers) != 2 {
		return nil, fmt.Errorf("cannot compare -peers=%s: name two", o.Run.Peers)
	}
	l, err := o.Run.prepare(o.Run.Peers)
	if err != nil {
		return nil, err
	}
	dataset, _, err := o.Run.openDataset(o.Run.Datasets)
	if err != nil {
		return nil, err
	}
	var servers [2]*server
	for i, peer := range peers {
		o.Run.logf("starting %s and ingesting dataset %s", peer, o.Run.Datasets)
		if servers[i], err = o.Run.filled(ctx, l, peer, dataset); err != nil {
			break
		}
	}
	var c *Comparison
	if err == nil {
		o.Run.logf("comparing")
		c, err = CompareServers(ctx, QueryOptions{Dataset: dataset, Queries: o.Run.Queries, URL: servers[0].readURL, Compare: servers[1].readURL, Tolerance: o.Tolerance}, each)
	}
	for _, s := range servers {
		if s != nil {
			err = errors.Join(err, s.close())
		}
	}
	return c, err
}

// filled starts a peer and ingests a dataset.
func (o *RunOptions) filled(ctx context.Context, l *launcher, peer, dataset string) (*server, error) {
	s, err := l.launch(ctx, peer)
	if err != nil {
		return nil, err
	}
	_, err = Ingest(ctx, IngestOptions{Dataset: dataset, URL: s.writeURL, Conns: o.Conns, ToScrape: 1 << 30, Rate: o.Rate, PIDs: s.pids()})
	if err == nil {
		err = s.call(ctx, http.MethodGet, s.flush)
	}
	if err == nil {
		err = s.waitIdle(ctx, time.Second)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot fill %s: %w", peer, err), s.close())
	}
	return s, nil
}
