package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"time"
)

// Peers of the two questions that Growth answers: what copies cost, and what more storage nodes cost.
const (
	replicationPeers = "ours-cluster-2,ours-cluster-2-rf2,ours-cluster-4,ours-cluster-4-rf2"
	fanoutPeers      = "ours-cluster-1,ours-cluster-2,ours-cluster-4,ours-cluster-8"
)

// GrowthOptions say which clusters to measure.
type GrowthOptions struct {
	Run     RunOptions // Datasets names one with a first phase
	Compare string
}

// RegisterFlags registers the flags of `vmbench growth`.
func (o *GrowthOptions) RegisterFlags(fs *flag.FlagSet) {
	fs.StringVar(&o.Compare, "compare", "fanout", "clusters to measure unless -peers names them: fanout is "+fanoutPeers+", replication "+replicationPeers)
	fs.StringVar(&o.Run.Peers, "peers", "", "clusters to measure: ours-cluster-4-rf2 has 4 storage nodes and 2 copies of each sample")
	fs.StringVar(&o.Run.Datasets, "dataset", "e", "folder of a dataset that was made with -phase-at=1, or the name of one")
	fs.IntVar(&o.Run.Repeat, "repeat", 1, "how often to measure each; the tables show medians")
	fs.IntVar(&o.Run.Rounds, "n", 5, "rounds of queries, after a first one")
	fs.DurationVar(&o.Run.Settle, "settle", 3*time.Second, "how long background work after the last request of a phase counts as ingestion")
	fs.DurationVar(&o.Run.IdleEvery, "idle-every", time.Second, "a server counts as idle when it uses less than a tenth of a CPU for two such intervals")
	o.Run.registerOutput(fs)
	o.Run.registerShared(fs)
}

// GrowthResult is what a cluster of some shape costs.
type GrowthResult struct {
	Origin
	Nodes  int      `json:"nodes"` // of storage
	Copies int      `json:"copies"`
	Sent   Manifest `json:"sent"`

	Register *IngestResult  `json:"register"`   // the first scrape
	Steady   *IngestResult  `json:"steady"`     // the others
	Steadies []ProcessUsage `json:"by_process"` // in that time; memory at its end

	SentBytes     float64 `json:"sent_bytes"`     // from vminsert to the storage nodes in that time
	AnsweredBytes float64 `json:"answered_bytes"` // the other way

	Disk       *Disk         `json:"disk"` // after the merge
	Stored     int64         `json:"stored"`
	Queries    *QueryResults `json:"queries"`
	QueryBytes float64       `json:"query_bytes"` // from the storage nodes to vmselect, for all queries once
}

// Growth measures what samples and queries cost clusters of several shapes, process by process, and what their
// processes send each other.
func Growth(ctx context.Context, o GrowthOptions) ([]GrowthResult, error) {
	if o.Run.Peers == "" {
		o.Run.Peers = map[string]string{"fanout": fanoutPeers, "replication": replicationPeers}[o.Compare]
	}
	peers := splitList(o.Run.Peers)
	if len(peers) == 0 {
		return nil, fmt.Errorf("cannot compare -compare=%s: give fanout or replication, or -peers", o.Compare)
	}
	for _, peer := range peers {
		if _, ok := clusterOf(peer); !ok {
			return nil, fmt.Errorf("cannot measure the growth of %q: give clusters, such as ours-cluster-4-rf2", peer)
		}
	}
	l, err := o.Run.prepare(o.Run.Peers)
	if err != nil {
		return nil, err
	}
	dataset, m, err := o.Run.openDataset(o.Run.Datasets)
	if err != nil {
		return nil, err
	}
	if m.PhaseAt == 0 {
		return nil, fmt.Errorf("cannot measure growth with -dataset=%s: make one with `vmbench gen -phase-at=1`, so that new series are told from known ones", o.Run.Datasets)
	}
	var results []GrowthResult
	var failures []error
	for i := range o.Run.Repeat {
		failures = append(failures, o.Run.eachPeer(ctx, inTurn(peers, i), "dataset "+o.Run.Datasets, func(peer string) error {
			r := GrowthResult{Origin: newOrigin("growth", peer), Sent: *m}
			c, _ := clusterOf(peer)
			r.Nodes, r.Copies = c.nodes, c.copies
			if err := o.Run.experiment(ctx, l, &r.Origin, func(s *server) error { return o.measure(ctx, s, &r, dataset) }); err != nil {
				return err
			}
			results = append(results, r)
			return o.Run.record(&r)
		}))
	}
	return results, errors.Join(failures...)
}

// measure fills in the result.
func (o *GrowthOptions) measure(ctx context.Context, s *server, r *GrowthResult, dataset string) error {
	all := IngestOptions{Dataset: dataset, URL: s.writeURL, Conns: o.Run.Conns, ToScrape: 1 << 30, Rate: o.Run.Rate, Settle: o.Run.Settle, PIDs: s.pids()}
	first, others := all, all
	first.ToScrape, others.FromScrape = r.Sent.PhaseAt, r.Sent.PhaseAt
	var err error
	if r.Register, err = Ingest(ctx, first); err != nil {
		return err
	}
	if err := o.steady(ctx, s, r, others); err != nil {
		return err
	}
	o.Run.logf("  flush and merge")
	for _, urls := range [][]string{s.flush, s.merge} {
		if err := s.call(ctx, http.MethodGet, urls); err != nil {
			return err
		}
	}
	if _, r.Disk, err = o.Run.rest(ctx, s, r.Sent.Samples); err != nil {
		return err
	}
	if r.Stored, err = countSamples(ctx, s, r.Peer, &r.Sent); err != nil {
		return err
	}
	return o.ask(ctx, s, r, dataset)
}

// steady sends the scrapes after the first and measures every process.
func (o *GrowthOptions) steady(ctx context.Context, s *server, r *GrowthResult, others IngestOptions) error {
	insert := s.named("vminsert")
	before := map[string]float64{}
	for _, p := range s.processes {
		ms, err := cpuMillis([]int{p.pid()})
		if err != nil {
			return err
		}
		before[p.name] = ms
	}
	sent, answered, err := insert.sentBytes(ctx)
	if err != nil {
		return err
	}
	if r.Steady, err = Ingest(ctx, others); err != nil {
		return err
	}
	for _, p := range s.processes {
		u, err := ReadUsage([]int{p.pid()})
		if err != nil {
			return err
		}
		ms, err := cpuMillis([]int{p.pid()})
		if err != nil {
			return err
		}
		u.CPUSeconds = (ms - before[p.name]) / 1000
		r.Steadies = append(r.Steadies, ProcessUsage{p.name, u})
	}
	r.SentBytes, r.AnsweredBytes, err = insert.sentBytes(ctx)
	r.SentBytes, r.AnsweredBytes = r.SentBytes-sent, r.AnsweredBytes-answered
	return err
}

// ask asks all queries.
func (o *GrowthOptions) ask(ctx context.Context, s *server, r *GrowthResult, dataset string) error {
	o.Run.logf("  queries")
	front := s.named("vmselect")
	_, before, err := front.sentBytes(ctx)
	if err != nil {
		return err
	}
	r.Queries, err = RunQueries(ctx, QueryOptions{
		Dataset: dataset, Queries: o.Run.Queries, URL: s.readURL, Rounds: o.Run.Rounds, PIDs: s.pids(), Front: []int{front.pid()},
	}, nil)
	if err != nil {
		return err
	}
	_, after, err := front.sentBytes(ctx)
	r.QueryBytes = (after - before) / float64(o.Run.Rounds+1)
	return err
}

// named returns the process of that name, which the server must have.
func (s *server) named(name string) *process {
	for _, p := range s.processes {
		if p.name == name {
			return p
		}
	}
	return nil
}

// sentBytes returns what the process has written to the connections it has opened, and what it has read from them.
func (p *process) sentBytes(ctx context.Context) (written, read float64, err error) {
	var found bool
	if written, found, err = p.sumMetrics(ctx, "vm_tcpdialer_written_bytes_total"); err == nil && !found {
		err = fmt.Errorf("cannot tell what %s sends: it has no metric vm_tcpdialer_written_bytes_total", p.name)
	}
	if err == nil {
		read, _, err = p.sumMetrics(ctx, "vm_tcpdialer_read_bytes_total")
	}
	return written, read, err
}
