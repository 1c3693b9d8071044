package clustertest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"vmcluster/lib/gather"
	"vmcluster/lib/metrics"
	"vmcluster/lib/query"
)

// topology is a cluster whose series are kept as its configuration says.
type topology struct {
	*pushDown
	cfg     gather.Config
	members map[string][]int // nodes by group
	names   []string         // of groups
}

// newTopology starts a random cluster.
func newTopology(t *testing.T, rng *rand.Rand) *topology {
	t.Helper()
	top := &topology{members: map[string][]int{}}
	top.cfg = gather.Config{ReplicationFactor: gather.Factors{Default: 1 + rng.IntN(3)}, SkipSlowReplicas: rng.IntN(3) == 0}
	top.names = []string{""}
	if rng.IntN(2) == 0 {
		top.names = []string{"g1", "g2", "g3"}[:2+rng.IntN(2)]
		top.cfg.GlobalReplicationFactor = 1 + rng.IntN(2)
		top.cfg.ReplicationFactor = gather.Factors{Default: 1, Groups: map[string]int{"g1": 1 + rng.IntN(2)}}
	}
	var groups []string
	for _, name := range top.names {
		for range 1 + rng.IntN(3) {
			top.members[name] = append(top.members[name], len(groups))
			groups = append(groups, name)
		}
	}
	top.pushDown = pushDownOver(NewWith(t, Options{Groups: groups, Gather: top.cfg}), rng)
	return top
}

// copiesIn returns on how many nodes of a group a sample is which the group has.
func (top *topology) copiesIn(group string) int {
	n := top.cfg.ReplicationFactor.Groups[group]
	if n == 0 {
		n = top.cfg.ReplicationFactor.Default
	}
	return min(n, len(top.members[group]))
}

func (top *topology) groupsPerSample() int {
	return min(max(1, top.cfg.GlobalReplicationFactor), len(top.names))
}

// place returns nodes for a sample.
func (top *topology) place() []int {
	var nodes []int
	for _, g := range top.rng.Perm(len(top.names))[:top.groupsPerSample()] {
		members := top.members[top.names[g]]
		for _, i := range top.rng.Perm(len(members))[:top.copiesIn(top.names[g])] {
			nodes = append(nodes, members[i])
		}
	}
	return nodes
}

// mayHide is the rule of docs/design/0027-replicated-reads.md.
func (top *topology) mayHide(lost []int) bool {
	groups := 0
	for name, members := range top.members {
		n := 0
		for _, i := range members {
			if slices.Contains(lost, i) {
				n++
			}
		}
		if n >= top.copiesIn(name) {
			groups++
		}
	}
	return groups >= top.groupsPerSample()
}

// load writes series; some move to other nodes in the middle, as they do when a node is away for a while.
func (top *topology) load(t *testing.T, series int) {
	t.Helper()
	for i := range series {
		samples := top.samples()
		cut := len(samples)
		if top.rng.IntN(4) == 0 {
			cut = top.rng.IntN(len(samples))
		}
		for _, node := range top.place() {
			top.write(t, top.Nodes[node].Storage, i, samples[:cut])
		}
		if cut < len(samples) {
			for _, node := range top.place() {
				top.write(t, top.Nodes[node].Storage, i, samples[max(0, cut-10):]) // some were sent twice
			}
		}
	}
	top.flushSome(t)
}

// TestReplicatedReads loses random nodes of random topologies. Answers which may lack data are partial and no others; those
// which are whole are what they were before, to the last bit, also from another reader that knows the nodes in another order, and
// whether storage nodes aggregate or not.
func TestReplicatedReads(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	whole, partial := 0, 0
	rounds := 12
	if testing.Short() {
		rounds = 4
	}
	for round := range rounds {
		top := newTopology(t, rng)
		top.load(t, 40)
		nodes := slices.Clone(top.Nodes)
		rng.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
		other := top.NewReader(top.cfg, nodes, nil)
		engines := []*query.Engine{top.engine, newEngine(other, other, metrics.NewSet())}
		var requests []query.Request
		var before []string
		for range 8 {
			r := top.request(top.expression())
			requests = append(requests, r)
			before = append(before, top.agree(t, engines, r, false))
		}
		lost := rng.Perm(len(nodes))[:rng.IntN(len(nodes))]
		for _, i := range lost {
			top.Nodes[i].Stop()
		}
		hiding := top.mayHide(lost)
		for i, r := range requests {
			got := top.agree(t, engines, r, hiding)
			if !hiding && !sameAnswer(got, before[i]) {
				t.Fatalf("round %d, %+v, nodes %v of groups %v lost: %s gives\n%s\nbefore it gave\n%s", round, top.cfg, lost, top.members, r.Query, got, before[i])
			}
		}
		if hiding {
			partial++
		} else if len(lost) > 0 {
			whole++
		}
	}
	t.Logf("%d times the answers were whole without some nodes, %d times partial", whole, partial)
}

// agree evaluates a query by all engines, with and without fragments, and returns the answer, which is theirs without exception.
func (top *topology) agree(t *testing.T, engines []*query.Engine, r query.Request, partial bool) string {
	t.Helper()
	var first string
	for i, e := range engines {
		for _, read := range []bool{false, true} {
			r.NoPushDown = read
			res, err := evaluate(e, r)
			got := fmt.Sprint(err)
			if err == nil {
				got = describeResult(res)
			}
			if err == nil && res.Partial != partial {
				t.Fatalf("%+v, nodes %v: %s is partial: %t; want %t", top.cfg, top.members, r.Query, res.Partial, partial)
			}
			if first == "" {
				first = got
			}
			if !sameAnswer(got, first) {
				t.Fatalf("%+v, nodes %v: reader %d, only reading %t: %s gives\n%s\ninstead of\n%s", top.cfg, top.members, i, read, r.Query, got, first)
			}
		}
	}
	return strings.Clone(first)
}
