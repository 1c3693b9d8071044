package gather

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/storageapi"
)

// A script: the answers of the nodes, the policy, and what comes of it.
func TestPolicy(t *testing.T) {
	for _, c := range []struct {
		answers string // one letter per node: see answerOf
		factor  int
		deny    bool
		ctxErr  error
		kind    errkind.Kind
		partial bool
		failed  string
	}{
		{answers: "...", kind: errkind.OK},
		{answers: ".d.", kind: errkind.OK, partial: true, failed: "n1"},
		{answers: "dd.", kind: errkind.OK, partial: true, failed: "n0 n1"},
		{answers: "ddd", kind: errkind.Unavailable},
		{answers: "d", kind: errkind.Unavailable},
		{answers: ".t.", kind: errkind.OK, partial: true, failed: "n1"},
		{answers: ".x.", kind: errkind.OK, partial: true, failed: "n1"},
		{answers: ".b.", kind: errkind.BadRequest},
		{answers: "dl.", kind: errkind.Unprocessable},
		{answers: "...", deny: true, kind: errkind.OK},
		{answers: ".d.", deny: true, kind: errkind.Unavailable},
		{answers: ".p.", deny: true, kind: errkind.Unavailable},
		{answers: ".p.", kind: errkind.OK, partial: true, failed: "below of n1"},
		{answers: ".d.", factor: 2, kind: errkind.OK, failed: "n1"},
		{answers: ".d.", factor: 2, deny: true, kind: errkind.OK, failed: "n1"},
		{answers: "dd.", factor: 2, kind: errkind.OK, partial: true, failed: "n0 n1"},
		{answers: "dd.", factor: 2, deny: true, kind: errkind.Unavailable},
		{answers: "dd.", factor: 3, kind: errkind.OK, failed: "n0 n1"},
		{answers: "dd", factor: 3, kind: errkind.Unavailable},
		{answers: ".p.", factor: 2, kind: errkind.OK, failed: "below of n1"}, // what it lacks has a copy
		{answers: "dp.", factor: 2, kind: errkind.OK, partial: true, failed: "n0 below of n1"},
		{answers: ".d.", ctxErr: context.Canceled, kind: errkind.Canceled},
		{answers: "ddd", ctxErr: context.DeadlineExceeded, kind: errkind.Timeout},
		{answers: "...", ctxErr: context.Canceled, kind: errkind.OK}, // the answer was whole before
	} {
		var answers []answer
		nodes := make([]Node, len(c.answers))
		for i, letter := range c.answers {
			answers = append(answers, answerOf(i, letter))
		}
		known := newCopies(nodes, &Config{ReplicationFactor: Factors{Default: c.factor}})
		cov, err := policy{deny: c.deny, copies: &known}.judge(answers, c.ctxErr)
		if errkind.Of(err) != c.kind {
			t.Errorf("%+v gives error %v", c, err)
			continue
		}
		if err != nil {
			continue
		}
		var failed []string
		for _, f := range cov.Failed {
			failed = append(failed, f.Node)
		}
		if cov.Partial != c.partial || strings.Join(failed, " ") != c.failed {
			t.Errorf("%+v gives coverage %+v", c, cov)
		}
	}
}

func answerOf(i int, letter rune) answer {
	a := answer{node: fmt.Sprint("n", i)}
	switch letter {
	case 'd':
		a.err = errkind.New(errkind.Unavailable, "down")
	case 't':
		a.err = errkind.New(errkind.Timeout, "slow")
	case 'x':
		a.err = errors.New("broken")
	case 'b':
		a.err = errkind.New(errkind.BadRequest, "bad filter")
	case 'l':
		a.err = errkind.New(errkind.Unprocessable, "too many series")
	case 'p':
		a.coverage = storageapi.Coverage{Partial: true, Failed: []storageapi.NodeFailure{{Node: "below", Err: errors.New("down")}}}
	}
	return a
}

// parseConfig reads flags.
func parseConfig(t *testing.T, args string) Config {
	t.Helper()
	var cfg Config
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	cfg.RegisterFlags(fs)
	if err := fs.Parse(strings.Fields(args)); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// groupedNodes makes a node of each letter, which is its group.
func groupedNodes(groups string) []Node {
	var nodes []Node
	for i, g := range groups {
		nodes = append(nodes, Node{Name: fmt.Sprint(i), Group: string(g)})
	}
	return nodes
}

// TestCopies is the truth table of docs/design/0027-replicated-reads.md.
func TestCopies(t *testing.T) {
	for _, c := range []struct {
		flags, groups string
		whole         string // sets of lost nodes, by their positions, that hide nothing
		hiding        string // and such that may
	}{
		{"", "aaa", "", "0 1 2 01"},
		{"-replicationFactor=2", "aaa", "0 1 2", "01 02 12 012"},
		{"-replicationFactor=3", "aaaaa", "01 34 24", "012 1234"},
		{"-replicationFactor=2", "a", "", "0"}, // one node cannot hold two copies
		{"-replicationFactor=3", "aa", "0 1", "01"},
		{"-replicationFactor=2", "aabb", "0 2 02 13", "01 23 012"},
		{"-replicationFactor=a:2", "aabb", "0 1", "2 3 02 01"},
		{"-replicationFactor=2,b:1", "aabb", "0 1", "2 3 02 01"},
		{"-replicationFactor=a:2 -replicationFactor=b:3", "aabbb", "0 2 23 023 134", "01 234"},
		{"-globalReplicationFactor=2", "aabb", "0 01 2 23", "02 13 012 0123"},
		{"-globalReplicationFactor=2", "aabbcc", "01 23 45", "02 0123 24 135"},
		{"-globalReplicationFactor=3", "aabb", "0 01 23", "02"}, // there are two groups
		{"-globalReplicationFactor=2 -replicationFactor=2", "aabb", "0 01 02 012 023", "0123"},
		{"-globalReplicationFactor=2 -replicationFactor=2", "aabbcc", "01 02 012 0124 024", "0123 2345 01234"},
		{"-globalReplicationFactor=2 -replicationFactor=a:2,b:1,c:1", "aabc", "0 1 2 3 01 02 03", "23 012 013"},
		{"-globalReplicationFactor=0", "ab", "", "0 1"},
	} {
		cfg := parseConfig(t, c.flags)
		known := newCopies(groupedNodes(c.groups), &cfg)
		for sets, want := range map[string]bool{c.whole: false, c.hiding: true} {
			for _, lost := range strings.Fields(sets) {
				if got := known.hides(func(node int) bool { return strings.Contains(lost, fmt.Sprint(node)) }); got != want {
					t.Errorf("%s with groups %s: without %s samples may be hidden: %t; want %t", c.flags, c.groups, lost, got, want)
				}
			}
		}
		if known.hides(func(int) bool { return false }) {
			t.Errorf("%s with groups %s: all nodes are there, and samples are hidden", c.flags, c.groups)
		}
	}
}

// TestCopiesAgainstModel compares with every way in which a sample can lie on random topologies, for every set of lost nodes.
func TestCopiesAgainstModel(t *testing.T) {
	rng := newRand(t)
	for range 300 {
		groups := ""
		cfg := Config{GlobalReplicationFactor: rng.IntN(4), ReplicationFactor: Factors{Default: rng.IntN(4), Groups: map[string]int{}}}
		for _, name := range []string{"a", "b", "c"}[:1+rng.IntN(3)] {
			groups += strings.Repeat(name, 1+rng.IntN(3))
			if rng.IntN(2) == 0 {
				cfg.ReplicationFactor.Groups[name] = 1 + rng.IntN(3)
			}
		}
		known := newCopies(groupedNodes(groups), &cfg)
		placements := placementsOf(groups, &cfg)
		for lost := range uint(1) << len(groups) {
			want := false
			for _, on := range placements {
				want = want || on&^lost == 0
			}
			if got := known.hides(func(node int) bool { return lost>>node&1 == 1 }); got != want {
				t.Fatalf("groups %s, %+v: without %b samples may be hidden: %t; want %t", groups, cfg, lost, got, want)
			}
		}
	}
}

// placementsOf returns all sets of nodes on which a sample can be: enough nodes in each of enough groups.
func placementsOf(groups string, cfg *Config) []uint {
	members := map[string]uint{}
	for i, g := range groups {
		members[string(g)] |= 1 << i
	}
	across := min(max(1, cfg.GlobalReplicationFactor), len(members))
	var out []uint
	for on := range uint(1) << len(groups) {
		used, fits := 0, true
		for name, mask := range members {
			here := bits.OnesCount(on & mask)
			fits = fits && (here == 0 || here == min(cfg.ReplicationFactor.of(name), bits.OnesCount(mask)))
			if here > 0 {
				used++
			}
		}
		if fits && used == across {
			out = append(out, on)
		}
	}
	return out
}

func TestFactors(t *testing.T) {
	for in, want := range map[string]string{"2": "2", "g1:3,g2:1": "g1:3,g2:1", "2,g1:3": "2,g1:3", "g1:1,1": "1,g1:1"} {
		var f Factors
		if err := f.Set(in); err != nil || f.String() != want {
			t.Errorf("%q is %q, %v", in, f.String(), err)
		}
	}
	for _, bad := range []string{"", "x", "0", "-1", "g1:", ":2", "g1:0", "g1:2:3", "1.5"} {
		if err := new(Factors).Set(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
	if got := new(Factors).String(); got != "1" {
		t.Errorf("the default is %q", got)
	}
}

func FuzzFactors(f *testing.F) {
	for _, seed := range []string{"2", "g1:3,g2:1", "2,g1:3", "a:b:1", "\"x,y\":2"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		var once, twice Factors
		if once.Set(in) != nil {
			return
		}
		for group := range once.Groups {
			if strings.ContainsAny(group, `,"'()[]{}\`) {
				return // needs quotes, as no group in -storageNode does
			}
		}
		if err := twice.Set(once.String()); err != nil || !reflect.DeepEqual(once.Groups, twice.Groups) || max(1, once.Default) != max(1, twice.Default) {
			t.Errorf("%q is %q, which is read as %+v, %v", in, once.String(), twice, err)
		}
	})
}

// pick returns a random subset of n things of the given size.
func pick(rng *rand.Rand, n, size int) []int { return rng.Perm(n)[:size] }
