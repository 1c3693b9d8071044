package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"vmcluster/app/internal/bench"
)

// environment is what a command works with.
type environment struct {
	flags          *flag.FlagSet
	stdout, stderr io.Writer
}

// print writes v as a line of JSON.
func (e *environment) print(v any) error {
	if err := json.NewEncoder(e.stdout).Encode(v); err != nil {
		return fmt.Errorf("cannot write result: %w", err)
	}
	return nil
}

// command is one thing the tool can do. Its setup registers flags and returns what runs after they are parsed.
type command struct {
	name, help string
	takesArgs  bool
	setup      func(*environment) func(context.Context) error
}

func commands() []command {
	return []command{
		{"run", "start peers, measure what datasets cost them, append the results to a file", false, setupRun},
		{"table", "print the results of run as Markdown tables: vmbench table results.jsonl", true, setupTable},
		{"compare", "start two peers, fill both, compare their answers value by value", false, setupCompare},
		{"crash", "kill storage processes under load and check that nothing acknowledged is lost", false, setupCrash},
		{"scale", "measure what a sample costs with more writers and more series; fails if it is not flat", false, setupScale},
		{"churn", "measure what replaced series cost, and writes of known series beside new ones", false, setupChurn},
		{"memory", "measure the memory of active series over an hour of scrapes, also with half of it", false, setupMemory},
		{"soak", "write and query steadily for minutes; fails if memory, stalls or parts grow", false, setupSoak},
		{"growth", "measure what samples and queries cost with more storage nodes, or with copies, and what nodes send each other", false, setupGrowth},
		{"gen", "write a deterministic dataset of remote write requests", false, setupGen},
		{"corpus", "write a dataset of real recordings, or Kubernetes-like, to tune compression on or to judge it by", false, setupCorpus},
		{"capture", "record what exporters expose, compactly", false, setupCapture},
		{"ingest", "replay a dataset to a remote write URL", false, setupIngest},
		{"query", "time a query list against a server, or compare two servers", false, setupQuery},
		{"disk", "print the size of data folders: vmbench disk -dataset=FOLDER DATA...", true, setupDisk},
		{"proc", "print CPU seconds and memory of processes", false, setupProc},
		{"floor", "serve remote write requests that are only decoded: the floor of ingestion", false, setupFloor},
		{"columns", "dump a dataset column by column, to be compressed: the floor of the disk size", false, setupColumns},
	}
}

// baseFlag registers -base, the peer that others are divided by.
func baseFlag(fs *flag.FlagSet) *string {
	return fs.String("base", "vm-single", "peer that the tables compare the others with")
}

// finish prints the tables of what was measured.
func (e *environment) finish(r *bench.Records, base string, err error) error {
	if _, printErr := fmt.Fprint(e.stdout, r.Table(base)); printErr != nil {
		return errors.Join(err, printErr)
	}
	return err
}

func (e *environment) lab() bench.Lab { return bench.Lab{Log: e.stderr} }

func setupRun(e *environment) func(context.Context) error {
	o := bench.RunOptions{Lab: e.lab()}
	o.RegisterFlags(e.flags)
	base := baseFlag(e.flags)
	return func(ctx context.Context) error {
		results, err := bench.Run(ctx, o)
		return e.finish(&bench.Records{Runs: results}, *base, err)
	}
}

func setupTable(e *environment) func(context.Context) error {
	base := baseFlag(e.flags)
	return func(context.Context) error {
		var records bench.Records
		for _, path := range e.flags.Args() {
			file, err := os.Open(path)
			if err != nil {
				return fmt.Errorf("cannot open results: %w", err)
			}
			err = records.Read(file)
			file.Close()
			if err != nil {
				return fmt.Errorf("cannot read %s: %w", path, err)
			}
		}
		if records.Len() == 0 {
			return errors.New("there are no results: give a file that `vmbench run` has written")
		}
		return e.finish(&records, *base, nil)
	}
}

func setupScale(e *environment) func(context.Context) error {
	o := bench.ScaleOptions{Lab: e.lab()}
	o.RegisterFlags(e.flags)
	return func(ctx context.Context) error {
		results, err := bench.Scale(ctx, o)
		for i := range results {
			if err == nil && !results[i].Flat() {
				err = fmt.Errorf("what a sample costs %s is not flat", results[i].Peer)
			}
		}
		return e.finish(&bench.Records{Scale: results}, "", err)
	}
}

func setupChurn(e *environment) func(context.Context) error {
	o := bench.ChurnOptions{Lab: e.lab()}
	o.RegisterFlags(e.flags)
	return func(ctx context.Context) error {
		results, err := bench.Churn(ctx, o)
		return e.finish(&bench.Records{Churn: results}, "", err)
	}
}

func setupMemory(e *environment) func(context.Context) error {
	o := bench.MemoryOptions{Lab: e.lab()}
	o.RegisterFlags(e.flags)
	return func(ctx context.Context) error {
		results, err := bench.Memory(ctx, o)
		for i := range results {
			if err == nil && results[i].Error != "" {
				err = fmt.Errorf("%s did not survive with half of its memory: %s", results[i].Peer, results[i].Error)
			}
		}
		return e.finish(&bench.Records{Memory: results}, "", err)
	}
}

func setupSoak(e *environment) func(context.Context) error {
	o := bench.SoakOptions{Lab: e.lab()}
	o.RegisterFlags(e.flags)
	return func(ctx context.Context) error {
		results, err := bench.Soak(ctx, o)
		for i := range results {
			if err == nil && !results[i].Passed() {
				err = fmt.Errorf("%s did not pass: see FAIL in the table", results[i].Peer)
			}
		}
		return e.finish(&bench.Records{Soak: results}, "", err)
	}
}

func setupGrowth(e *environment) func(context.Context) error {
	o := bench.GrowthOptions{Run: bench.RunOptions{Lab: e.lab()}}
	o.RegisterFlags(e.flags)
	return func(ctx context.Context) error {
		results, err := bench.Growth(ctx, o)
		return e.finish(&bench.Records{Growth: results}, "", err)
	}
}

func setupCompare(e *environment) func(context.Context) error {
	o := bench.PeerCompareOptions{Run: bench.RunOptions{Lab: e.lab()}}
	o.RegisterFlags(e.flags)
	return func(ctx context.Context) error {
		c, err := bench.ComparePeers(ctx, o, e.printDiff)
		return e.finishComparison(c, err)
	}
}

func (e *environment) printDiff(d *bench.Diff) error { return e.print(d) }

// finishComparison fails when any answer differs.
func (e *environment) finishComparison(c *bench.Comparison, err error) error {
	if err != nil {
		return err
	}
	if err := e.print(c); err != nil {
		return err
	}
	if c.Different > 0 {
		return fmt.Errorf("%d of %d queries have different answers", c.Different, c.Queries)
	}
	return nil
}

func setupCrash(e *environment) func(context.Context) error {
	o := bench.CrashOptions{Lab: e.lab()}
	o.RegisterFlags(e.flags)
	return func(ctx context.Context) error {
		res, err := bench.Crash(ctx, o)
		if err != nil {
			return err
		}
		if err := e.print(res); err != nil {
			return err
		}
		if res.Failed() {
			return fmt.Errorf("of %d acknowledged samples %d are lost; %d samples are wrong", res.AckedSamples, res.Lost, res.Wrong)
		}
		return nil
	}
}

func setupGen(e *environment) func(context.Context) error {
	var o bench.GenerateOptions
	o.RegisterFlags(e.flags)
	return func(context.Context) error {
		m, err := bench.Generate(o)
		if err != nil {
			return err
		}
		return e.print(m)
	}
}

func setupCorpus(e *environment) func(context.Context) error {
	var o bench.CorpusOptions
	o.RegisterFlags(e.flags)
	return func(context.Context) error {
		m, err := bench.Corpus(o)
		if err != nil {
			return err
		}
		return e.print(m)
	}
}

func setupCapture(e *environment) func(context.Context) error {
	var o bench.CaptureOptions
	o.RegisterFlags(e.flags)
	return func(ctx context.Context) error {
		sizes, err := bench.Capture(ctx, o)
		if err != nil {
			return err
		}
		return e.print(sizes)
	}
}

// pidFlag registers -pid; the returned function parses its value.
func pidFlag(fs *flag.FlagSet) func() ([]int, error) {
	list := fs.String("pid", "", "process ids of the server, separated by commas")
	return func() ([]int, error) { return bench.ParsePIDs(*list) }
}

func setupIngest(e *environment) func(context.Context) error {
	var o bench.IngestOptions
	o.RegisterFlags(e.flags)
	pids := pidFlag(e.flags)
	return func(ctx context.Context) (err error) {
		if o.PIDs, err = pids(); err != nil {
			return err
		}
		res, err := bench.Ingest(ctx, o)
		if err != nil {
			return err
		}
		return e.print(res)
	}
}

func setupQuery(e *environment) func(context.Context) error {
	var o bench.QueryOptions
	o.RegisterFlags(e.flags)
	pids := pidFlag(e.flags)
	total := e.flags.Bool("total", false, "print one line for all queries rather than a line for each")
	return func(ctx context.Context) (err error) {
		if o.PIDs, err = pids(); err != nil {
			return err
		}
		if o.Compare != "" {
			return e.finishComparison(bench.CompareServers(ctx, o, e.printDiff))
		}
		each := func(r *bench.QueryResult) error { return e.print(r) }
		if *total {
			each = nil
		}
		res, err := bench.RunQueries(ctx, o, each)
		if err != nil {
			return err
		}
		if !*total {
			res.Queries = nil // they have been printed
		}
		if err := e.print(res); err != nil {
			return err
		}
		if res.Errors > 0 {
			return fmt.Errorf("%d queries failed", res.Errors)
		}
		return nil
	}
}

func setupDisk(e *environment) func(context.Context) error {
	dataset := e.flags.String("dataset", "", "folder of the dataset that was ingested, for bytes per sample")
	return func(context.Context) error {
		if e.flags.NArg() == 0 {
			return errors.New("cannot measure without a folder: give one or more as arguments")
		}
		samples := int64(0)
		if *dataset != "" {
			m, err := bench.LoadManifest(*dataset)
			if err != nil {
				return err
			}
			samples = m.Samples
		}
		d, err := bench.MeasureDisk(samples, e.flags.Args()...)
		if err != nil {
			return err
		}
		return e.print(d)
	}
}

func setupProc(e *environment) func(context.Context) error {
	pids := pidFlag(e.flags)
	reset := e.flags.Bool("reset-peak", false, "reset the memory peak afterwards")
	return func(context.Context) error {
		list, err := pids()
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return errors.New("cannot measure without a process: give -pid")
		}
		u, err := bench.ReadUsage(list)
		if err != nil {
			return err
		}
		if *reset {
			bench.ResetPeaks(list)
		}
		return e.print(u)
	}
}

func setupFloor(e *environment) func(context.Context) error {
	var o bench.FloorOptions
	o.RegisterFlags(e.flags)
	return func(ctx context.Context) error { return bench.ServeFloor(ctx, o) }
}

func setupColumns(e *environment) func(context.Context) error {
	var o bench.ColumnsOptions
	o.RegisterFlags(e.flags)
	return func(context.Context) error { return bench.WriteColumns(e.stdout, o) }
}
