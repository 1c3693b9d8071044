package bench

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Lab says where the binaries of peers are, where their data goes and where results are written.
type Lab struct {
	Bin     string
	PeerBin string
	Dir     string
	Out     string
	Lock    string

	Log  io.Writer // of progress
	Self []string  // command that runs this tool; nil is the running binary
}

// registerFolders registers the flags that every command which starts peers has.
func (o *Lab) registerFolders(fs *flag.FlagSet) {
	fs.StringVar(&o.Bin, "bin", "bin", "folder with our binaries")
	fs.StringVar(&o.PeerBin, "peer-bin", "", "folder with the peers' binaries; empty is PATH, where Debian's packages victoria-metrics and prometheus put them")
	fs.StringVar(&o.Dir, "dir", "bench-data", "folder for datasets, which stay, and for the servers' data, which goes")
}

// registerOutput registers the flags of commands that write results.
func (o *Lab) registerOutput(fs *flag.FlagSet) {
	fs.StringVar(&o.Out, "out", "results.jsonl", "file to which one line per measurement is appended; `vmbench table` reads it")
	fs.StringVar(&o.Lock, "lock", "", "file to be locked during each measurement, when several people measure on one machine")
}

func (o *Lab) register(fs *flag.FlagSet) {
	o.registerFolders(fs)
	o.registerOutput(fs)
}

func (o *Lab) logf(format string, args ...any) {
	if o.Log != nil {
		_, _ = fmt.Fprintf(o.Log, time.Now().Format("15:04:05 ")+format+"\n", args...) // progress only
	}
}

// prepare checks the names of peers and returns what starts them.
func (o *Lab) prepare(peers string) (*launcher, error) {
	names := splitList(peers)
	if len(names) == 0 {
		return nil, fmt.Errorf("cannot measure no peer: there are %s", PeerNames)
	}
	for _, p := range names {
		if _, ok := clusterOf(p); !ok && !slices.Contains(splitList(PeerNames), p) {
			return nil, fmt.Errorf("cannot measure peer %q: there are %s; ours-cluster-4-rf2 is one with 4 storage nodes and 2 copies of each sample", p, PeerNames)
		}
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot create -dir=%s: %w", o.Dir, err)
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	o.Dir = dir
	if err := o.checkOut(); err != nil {
		return nil, err
	}
	self := o.Self
	if self == nil {
		path, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("cannot find the path of this tool: %w", err)
		}
		self = []string{path}
	}
	return &launcher{bin: o.Bin, peerBin: o.PeerBin, self: self, dir: dir}, nil
}

// checkOut finds out before anything is measured whether the result can be kept.
func (o *Lab) checkOut() error {
	if o.Out == "" {
		return nil
	}
	f, err := os.OpenFile(o.Out, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("cannot open -out=%s: %w", o.Out, err)
	}
	return f.Close()
}

func splitList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

// inTurn returns the peers in the opposite order every second time, so that none is always first.
func inTurn(peers []string, round int) []string {
	peers = slices.Clone(peers)
	if round%2 == 1 {
		slices.Reverse(peers)
	}
	return peers
}

// record appends a result to o.Out.
func (o *Lab) record(v any) error {
	f, err := os.OpenFile(o.Out, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("cannot open -out=%s: %w", o.Out, err)
	}
	if err := errors.Join(json.NewEncoder(f).Encode(v), f.Close()); err != nil {
		return fmt.Errorf("cannot write result to -out=%s: %w", o.Out, err)
	}
	return nil
}

// Origin tells of a result what was measured, when and where.
type Origin struct {
	Kind    string    `json:"kind,omitempty"` // of experiment; empty is run
	Peer    string    `json:"peer"`
	Version string    `json:"version,omitempty"`
	Started time.Time `json:"started"`
	CPUs    int       `json:"cpus"`
}

func newOrigin(kind, peer string) Origin {
	return Origin{Kind: kind, Peer: peer, Started: time.Now().UTC().Truncate(time.Second), CPUs: runtime.NumCPU()}
}

// experiment is the life of one peer: it is started in a fresh folder, measured and removed.
func (o *Lab) experiment(ctx context.Context, l *launcher, origin *Origin, measure func(*server) error) error {
	unlock, err := lockFile(ctx, o.Lock)
	if err != nil {
		return err
	}
	defer unlock()
	s, err := l.launch(ctx, origin.Peer)
	if err != nil {
		return err
	}
	origin.Version = s.version
	if err = measure(s); err != nil {
		err = errors.Join(err, s.died())
	}
	return errors.Join(err, s.close())
}

// eachPeer measures the peers in turn. Those that are not installed are skipped with a message; one that
// fails does not keep the others from being measured.
func (o *Lab) eachPeer(ctx context.Context, peers []string, what string, measure func(peer string) error) error {
	var failures []error
	for _, peer := range peers {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		o.logf("measuring %s with %s", peer, what)
		err := measure(peer)
		if errors.Is(err, errMissing) {
			o.logf("skipping %s: %s", peer, err)
			continue
		}
		if err != nil {
			o.logf("failed: %s: %s", peer, err)
			failures = append(failures, fmt.Errorf("cannot measure %s with %s: %w", peer, what, err))
		}
	}
	return errors.Join(failures...)
}

// lockFile waits for an exclusive lock of a file; an empty path needs none.
func lockFile(ctx context.Context, path string) (unlock func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot open -lock=%s: %w", path, err)
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("cannot lock -lock=%s: %w", path, errors.Join(err, f.Close()))
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
}
