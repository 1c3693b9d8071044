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
		{"gen", "write a deterministic dataset of remote write requests", false, setupGen},
		{"ingest", "replay a dataset to a remote write URL", false, setupIngest},
		{"query", "time a query list against a server, or compare two servers", false, setupQuery},
		{"disk", "print the size of data folders: vmbench disk -dataset=FOLDER DATA...", true, setupDisk},
		{"proc", "print CPU seconds and memory of processes", false, setupProc},
		{"floor", "serve remote write requests that are only decoded: the floor of ingestion", false, setupFloor},
		{"columns", "dump a dataset column by column, to be compressed: the floor of the disk size", false, setupColumns},
	}
}

func setupRun(e *environment) func(context.Context) error {
	o := bench.RunOptions{Log: e.stderr}
	o.RegisterFlags(e.flags)
	return func(ctx context.Context) error {
		results, err := bench.Run(ctx, o)
		if _, printErr := fmt.Fprint(e.stdout, bench.Table(results)); printErr != nil {
			return errors.Join(err, printErr)
		}
		return err
	}
}

func setupTable(e *environment) func(context.Context) error {
	return func(context.Context) error {
		var results []bench.Result
		for _, path := range e.flags.Args() {
			file, err := os.Open(path)
			if err != nil {
				return fmt.Errorf("cannot open results: %w", err)
			}
			list, err := bench.ReadResults(file)
			file.Close()
			if err != nil {
				return fmt.Errorf("cannot read %s: %w", path, err)
			}
			results = append(results, list...)
		}
		if len(results) == 0 {
			return errors.New("there are no results: give a file that `vmbench run` has written")
		}
		_, err := fmt.Fprint(e.stdout, bench.Table(results))
		return err
	}
}

func setupCompare(e *environment) func(context.Context) error {
	o := bench.PeerCompareOptions{Run: bench.RunOptions{Log: e.stderr}}
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
	o := bench.CrashOptions{Log: e.stderr}
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
