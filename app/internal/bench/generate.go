package bench

import (
	"errors"
	"flag"
	"time"
)

// GenerateOptions say what a dataset is like.
type GenerateOptions struct {
	Dir            string
	Hosts          int
	Scrapes        int
	CPUs           int
	Shards         int
	SamplesPerBody int
	Restarts       float64 // probability that a host restarts at a scrape
	Churn          float64
	ChurnEvery     int
	PhaseAt        int // scrape at which a replay can be split; 0 is none
	Late           float64
	Seed           uint64
	End            int64 // Unix seconds; 0 is now
	firstHost      int   // number of the first host
	hostStep       int   // distance of the numbers of hosts; 0 is 1
}

// RegisterFlags registers the flags of `vmbench gen`, whose defaults are the options of dataset a.
func (o *GenerateOptions) RegisterFlags(fs *flag.FlagSet) {
	fs.StringVar(&o.Dir, "out", "", "folder to write the dataset to")
	fs.IntVar(&o.Hosts, "hosts", 100, "hosts; each has a node_exporter and a Prometheus to scrape")
	fs.IntVar(&o.Scrapes, "scrapes", 480, "scrapes of each target, 15s apart")
	fs.IntVar(&o.CPUs, "cpus", 16, "CPUs of each host")
	fs.IntVar(&o.Shards, "shards", 8, "shards the hosts are spread over; the most connections a replay can use")
	fs.IntVar(&o.SamplesPerBody, "samples-per-request", 5000, "samples in a request")
	fs.Float64Var(&o.Restarts, "restarts", 1.0/5000, "probability that a host restarts at a scrape, which resets its counters")
	fs.Float64Var(&o.Churn, "churn", 0, "fraction of hosts renamed every -churn-every scrapes")
	fs.IntVar(&o.ChurnEvery, "churn-every", 20, "scrapes between renamings")
	fs.IntVar(&o.PhaseAt, "phase-at", 0, "scrape before which no request mixes scrapes, so that its costs can be told from those before: 1 tells registration from the rest")
	fs.Float64Var(&o.Late, "late", 0.01, "fraction of scrapes that are some milliseconds late; 1 jitters every timestamp")
	fs.Uint64Var(&o.Seed, "seed", 1, "seed of all random numbers")
	fs.Int64Var(&o.End, "end", 0, "Unix timestamp of the last scrape; 0 is now")
}

// DefaultGenerateOptions returns the defaults of the flags.
func DefaultGenerateOptions() GenerateOptions {
	var o GenerateOptions
	o.RegisterFlags(flag.NewFlagSet("", flag.ContinueOnError))
	return o
}

func (o *GenerateOptions) check() error {
	switch {
	case o.Dir == "":
		return errors.New("cannot generate a dataset without a folder: give -out")
	case o.Hosts < 1 || o.Scrapes < 1 || o.CPUs < 1 || o.Shards < 1 || o.SamplesPerBody < 1:
		return errors.New("cannot generate an empty dataset: -hosts, -scrapes, -cpus, -shards and -samples-per-request must be at least 1")
	case o.Churn < 0 || o.Churn > 1 || o.Late < 0 || o.Late > 1 || o.Restarts < 0 || o.Restarts > 1:
		return errors.New("cannot generate a dataset: -churn, -late and -restarts are fractions from 0 to 1")
	}
	return nil
}

// Generate writes a dataset. The manifest is written last, so a folder with one is complete.
func Generate(o GenerateOptions) (*Manifest, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.End == 0 {
		o.End = time.Now().Unix()
	}
	targets, err := loadTargets(o.CPUs)
	if err != nil {
		return nil, err
	}
	return writeDataset(o.Dir, func(sink func(Body) error) (*Manifest, error) {
		f := newFleet(&o, targets, sink)
		for range o.Scrapes {
			if err := f.scrapeAll(); err != nil {
				return nil, err
			}
		}
		return &f.m, f.flushAll()
	})
}
