package clustertest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing/synctest"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/query"
	"vmcluster/lib/vfs/faultfs"
)

// chaosTally counts what has happened in histories.
type chaosTally map[string]int

// slowestRecovery is not a count.
const slowestRecovery = "ms until all was well, at most"

func (t chaosTally) add(other chaosTally) {
	slowest := max(t[slowestRecovery], other[slowestRecovery])
	for what, n := range other {
		t[what] += n
	}
	t[slowestRecovery] = slowest
}

// log prints what has happened, also after a failure.
func (t chaosTally) log() {
	for _, what := range slices.Sorted(maps.Keys(t)) {
		fmt.Printf("%s: %d\n", what, t[what])
	}
}

// chaosFeed makes batches.
type chaosFeed struct {
	w      *chaos
	series []feedSeries
	values int // so many were made
	before []*model.Batch
}

type feedSeries struct {
	tenant model.TenantID
	labels []model.Label
}

func newChaosFeed(w *chaos) *chaosFeed {
	f := &chaosFeed{w: w}
	for range 5 + w.rng.IntN(20) {
		f.grow()
	}
	return f
}

// grow adds a series. They look like those of the tests of pushed down queries.
func (f *chaosFeed) grow() {
	i := len(f.series)
	labels := []model.Label{{Name: model.MetricNameLabel, Value: fmt.Sprint("m", i%3)}, {Name: "group", Value: fmt.Sprint(i * 7 % 5)}, {Name: "i", Value: fmt.Sprint(i)}}
	f.series = append(f.series, feedSeries{f.w.tenants[f.w.rng.IntN(len(f.w.tenants))], labels})
}

func (f *chaosFeed) add(b *model.Batch, i int, times ...int64) {
	if err := b.AddSeries(f.series[i].tenant, f.series[i].labels); err != nil {
		panic(err)
	}
	for _, ts := range times {
		f.values++
		b.AddSample(ts, float64(f.values)+float64(f.w.rng.IntN(100))/100)
	}
}

// history returns what the series were like in the last 40 minutes.
func (f *chaosFeed) history() *model.Batch {
	b := &model.Batch{}
	for i := range f.series {
		var times []int64
		at := f.w.now().UnixMilli() - 40*60_000 + f.w.rng.Int64N(30_000)
		for ; at < f.w.now().UnixMilli(); at += 30_000 {
			times = append(times, at)
		}
		f.add(b, i, times...)
	}
	return b
}

// batch returns the next one and says what it is.
func (f *chaosFeed) batch() (*model.Batch, string) {
	rng, now, b := f.w.rng, f.w.now().UnixMilli(), &model.Batch{}
	kind := "scrape"
	switch r := rng.IntN(20); {
	case r < 4:
		kind = "late samples"
		for range 1 + rng.IntN(4) {
			f.add(b, rng.IntN(len(f.series)), now-rng.Int64N(3600_000), now-rng.Int64N(60_000))
		}
	case r < 6 && len(f.before) > 0:
		kind = "the same once more"
		return f.before[rng.IntN(len(f.before))], kind
	case r < 7 && len(f.before) > 0:
		kind = "other values for the same times"
		old := f.before[rng.IntN(len(f.before))]
		for i := range old.Len() {
			b.AddKey(old.Key(i), old.Hash(i))
			for _, s := range old.Samples(i) {
				f.values++
				b.AddSample(s.Timestamp, float64(f.values%200))
			}
		}
	default:
		if r < 9 {
			kind = "scrape with a new series"
			f.grow()
		}
		for i := range f.series {
			if rng.IntN(8) > 0 {
				f.add(b, i, now-rng.Int64N(1000))
			}
		}
	}
	f.before = append(f.before, b)
	return b, fmt.Sprintf("%s, %d rows", kind, b.Rows())
}

// write sends a batch in the background. Who gets an error sends the same again, maybe elsewhere.
func (w *chaos) write(in *chaosInsert, batch *model.Batch, what string) {
	w.book.send(batch)
	b := &model.Batch{} // the feed may send it once more at the same time
	for i := range batch.Len() {
		b.Append(batch, i)
	}
	number, patience := w.tally["writes"], time.Duration(1+w.rng.IntN(30))*time.Second
	w.tally["writes"]++
	others := w.rng.Perm(len(w.inserts))[:w.rng.IntN(len(w.inserts)+1)]
	w.note("write %d at %s: %s", number, in.host, what)
	w.background(func() {
		for attempt := 0; ; attempt++ {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			err := in.router.Ingest(ctx, b)
			cancel()
			w.note("write %d at %s: %v", number, in.host, err)
			if err == nil {
				w.acknowledged(b, number)
				return
			}
			if kind := errkind.Of(err); !kind.TryElsewhere() && kind != errkind.Canceled {
				w.failf("write %d is refused: %s", number, err)
			}
			if attempt >= len(others) {
				return
			}
			in = w.inserts[others[attempt]]
			time.Sleep(200 * time.Millisecond)
		}
	})
	synctest.Wait()
}

func (w *chaos) acknowledged(b *model.Batch, number int) {
	short, none := w.book.acknowledge(b, &w.place)
	if none > 0 {
		w.failf("write %d was acknowledged, and %d of its rows are on no disk", number, none)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.short += short
}

func (w *chaos) background(do func()) {
	w.flying.Add(1)
	w.ops.Go(func() {
		defer w.flying.Add(-1)
		do()
	})
}

// step does one random thing.
func (w *chaos) step() {
	for _, n := range w.nodes {
		n.bury()
	}
	if w.flying.Load() > 8 {
		w.pass(time.Duration(1+w.rng.IntN(3000)) * time.Millisecond)
	}
	switch r := w.rng.IntN(100); {
	case r < 30:
		b, what := w.feed.batch()
		w.write(w.inserts[w.rng.IntN(len(w.inserts))], b, what)
	case r < 33:
		w.remove(w.reader())
	case r < 35:
		w.mute()
	case r < 45:
		w.search(w.reader())
	case r < 57:
		w.evaluate(w.reader())
	case r < 62:
		w.list(w.reader())
	case r < 65:
		w.housekeeping()
	case r < 69:
		w.sure()
	case r < 81:
		w.disturb()
	case r < 87:
		w.liftOne()
	default:
		w.pass(time.Duration(w.rng.IntN(3000)) * time.Millisecond)
	}
}

func (w *chaos) reader() *chaosSelect { return w.selects[w.rng.IntN(len(w.selects))] }

func (w *chaos) pass(d time.Duration) {
	time.Sleep(d) // of the bubble
	synctest.Wait()
}

// housekeeping flushes or merges a node.
func (w *chaos) housekeeping() {
	n := w.nodes[w.rng.IntN(len(w.nodes))]
	if !n.up {
		return
	}
	what, do := "flush", n.store.Flush
	if w.rng.IntN(3) == 0 {
		what, do = "merge", func(ctx context.Context) error { return n.store.Merge(ctx, "") }
	}
	err := do(context.Background())
	w.note("%s %s: %v", what, n.host, err)
	if err != nil && !n.full && !n.dying.Load() {
		w.failf("cannot %s %s: %s", what, n.host, err)
	}
}

// chaosFault lasts until it is lifted.
type chaosFault struct {
	name string
	lift func()
	calm bool // it is known which nodes can be reached, and what they do
}

// disturb lets something go wrong.
func (w *chaos) disturb() {
	kinds := []func() (string, func()){
		w.kill, w.kill, w.restart, w.wrongClock, w.loseForGood, w.loseGroup, w.grow, w.relist, // those behind these are not calm
		w.loseLevel,
		w.resets, w.tears, w.partition, w.halfOpen, w.slow, w.doubles, w.killLater, w.fullDisk, w.badDisk,
	}
	const calm = 8
	if len(w.faults) > 3 {
		w.liftOne()
	}
	kind := w.rng.IntN(len(kinds))
	name, lift := kinds[kind]()
	if name == "" {
		return
	}
	w.note("%s", name)
	if lift != nil {
		w.faults = append(w.faults, chaosFault{name, lift, kind < calm})
	}
	synctest.Wait()
}

func (w *chaos) count(what string) { w.tally[what]++ }

func (w *chaos) liftOne() {
	if len(w.faults) == 0 {
		return
	}
	i := w.rng.IntN(len(w.faults))
	f := w.faults[i]
	w.faults = slices.Delete(w.faults, i, i+1)
	w.note("no longer: %s", f.name)
	f.lift()
	synctest.Wait()
}

func (w *chaos) clients() []string {
	var hosts []string
	for _, in := range w.inserts {
		hosts = append(hosts, in.host)
	}
	for _, s := range w.selects {
		hosts = append(hosts, s.host)
	}
	for _, l := range w.levels {
		hosts = append(hosts, l.host)
	}
	return hosts
}

// pair returns a client and a storage node.
func (w *chaos) pair() (client, node string) {
	clients := w.clients()
	if len(w.levels) > 0 && w.rng.IntN(2) == 0 {
		tops := clients[:len(clients)-len(w.levels)]
		return tops[w.rng.IntN(len(tops))], w.levels[w.rng.IntN(len(w.levels))].host
	}
	return clients[w.rng.IntN(len(clients))], w.nodes[w.rng.IntN(len(w.nodes))].host
}

func (w *chaos) resets() (string, func()) {
	client, node := w.pair()
	if w.rng.IntN(3) == 0 {
		client = ""
	}
	w.count("connections reset")
	w.net.reset(node, client)
	return fmt.Sprintf("connections of %s and %q are reset", node, client), nil
}

// tears breaks connections in the middle of what is being sent.
func (w *chaos) tears() (string, func()) {
	client, node := w.pair()
	after := 1 + w.rng.Int64N(3000)
	w.count("connections torn")
	set := func(left int64) {
		w.net.pipes(func(x way) bool { return x.from == client && x.to == node || x.to == client && x.from == node }, func(p *pipe) {
			_ = p.change(func() { p.mu.left = left })
		})
	}
	if i := slices.IndexFunc(w.selects, func(s *chaosSelect) bool { return s.host == client }); i >= 0 {
		// A query whose result the cache is about to keep takes several messages.
		after = 1 + w.rng.Int64N(500)
		s, r := w.selects[i], w.request(dashboards()[w.seed%3])
		r.Tenant = w.tenants[0]
		w.compareEvaluated(s, s.ask(model.SearchQuery{Tenant: r.Tenant}), r, true)
		defer w.evaluateAs(s, r, true)
	}
	set(after)
	return fmt.Sprintf("connections of %s and %s break after %d bytes", node, client, after), func() { set(-1) }
}

// partition separates random sets of hosts. When it ends, what was sent arrives, or the connections are broken.
func (w *chaos) partition() (string, func()) {
	w.count("partition")
	var here, there []string
	hosts := w.clients()
	for _, n := range w.nodes {
		hosts = append(hosts, n.host)
	}
	for _, h := range hosts {
		if w.rng.IntN(2) == 0 {
			here = append(here, h)
		} else {
			there = append(there, h)
		}
	}
	var ways []way
	for _, a := range here {
		for _, b := range there {
			ways = append(ways, way{a, b}, way{b, a})
		}
	}
	return fmt.Sprintf("%v and %v are separated", here, there), w.block(ways)
}

// halfOpen lets nothing through in one direction.
func (w *chaos) halfOpen() (string, func()) {
	w.count("half-open")
	client, node := w.pair()
	from, to := client, node
	if w.rng.IntN(2) == 0 {
		from, to = node, client
	}
	return fmt.Sprintf("nothing from %s arrives at %s", from, to), w.block([]way{{from, to}})
}

func (w *chaos) block(ways []way) (lift func()) {
	broken := w.rng.IntN(2) == 0
	for _, x := range ways {
		w.net.set(x, func(c *condition) { c.blocked = true })
	}
	return func() {
		for _, x := range ways {
			if broken {
				w.net.reset(x.from, x.to)
			}
			w.net.set(x, func(c *condition) { c.blocked = false })
		}
	}
}

// slow makes the network of a node slow.
func (w *chaos) slow() (string, func()) {
	w.count("slow")
	node := w.nodes[w.rng.IntN(len(w.nodes))].host
	latency, rate := time.Duration(20+w.rng.IntN(2000))*time.Millisecond, int64(w.rng.IntN(2)*(2000+w.rng.IntN(100_000)))
	set := func(change func(c *condition)) {
		for _, h := range w.clients() {
			w.net.set(way{h, node}, change)
			w.net.set(way{node, h}, change)
		}
	}
	set(func(c *condition) { c.latency, c.rate = latency, rate })
	return fmt.Sprintf("%s is %s away, and takes %d bytes a second", node, latency, rate), func() { set(func(c *condition) { c.latency, c.rate = 200*time.Microsecond, 0 }) }
}

// doubles lets attempts to connect arrive twice, or be answered in vain. Connections are broken, so that there are attempts.
func (w *chaos) doubles() (string, func()) {
	w.count("doubled connections")
	node := w.nodes[w.rng.IntN(len(w.nodes))].host
	for _, h := range w.clients() {
		w.net.set(way{h, node}, func(c *condition) { c.doubled = true })
	}
	w.net.reset(node, "")
	return "attempts to connect to " + node + " are doubled", func() {
		for _, h := range w.clients() {
			w.net.set(way{h, node}, func(c *condition) { c.doubled = false })
		}
	}
}

// victim returns a node that runs, or nil.
func (w *chaos) victim() *chaosNode {
	n := w.nodes[w.rng.IntN(len(w.nodes))]
	if !n.up || n.dying.Load() {
		return nil
	}
	return n
}

func (n *chaosNode) restart() {
	n.bury()
	if !n.up && !n.gone {
		n.start()
	}
}

func (w *chaos) kill() (string, func()) {
	n, power := w.victim(), w.rng.IntN(3) > 0
	if n == nil {
		return "", nil
	}
	w.count(fmt.Sprintf("killed, power failure: %t", power))
	n.die(power)
	n.bury()
	return fmt.Sprintf("%s is killed, power failure: %t", n.host, power), n.restart
}

// killLater kills a node in the middle of what it does to its files.
func (w *chaos) killLater() (string, func()) {
	n, power, after := w.victim(), w.rng.IntN(3) > 0, int64(1+w.rng.IntN(40))
	if n == nil {
		return "", nil
	}
	w.count("killed at work")
	faulty := n.faulty
	at := faulty.Ops() + after
	faulty.SetHook(func(op faultfs.Op) {
		if op.Kind != faultfs.Read && op.N == at {
			n.die(power)
		}
	})
	return fmt.Sprintf("%s will be killed after %d operations on files, power failure: %t", n.host, after, power), func() {
		faulty.SetHook(nil)
		n.restart()
	}
}

// restart stops a node gracefully. It may be back at once.
func (w *chaos) restart() (string, func()) {
	n := w.victim()
	if n == nil {
		return "", nil
	}
	w.count("stopped")
	w.note("%s stops", n.host)
	n.stop()
	if w.rng.IntN(2) == 0 {
		n.restart()
		return n.host + " is back", nil
	}
	return n.host + " has stopped", n.restart
}

func (w *chaos) fullDisk() (string, func()) {
	n := w.victim()
	if n == nil || n.full {
		return "", nil
	}
	space, err := n.disk.Space("/")
	if err != nil {
		w.failf("cannot read the free space: %s", err)
	}
	w.count("full disk")
	room := w.rng.Int64N(2 * chaosMinFree)
	n.full = true
	n.disk.SetCapacity(max(1, space.Total-space.Free+room))
	return fmt.Sprintf("%s has %d bytes left", n.host, room), func() {
		n.full = false
		n.disk.SetCapacity(0)
		if n.survived != nil {
			n.survived.SetCapacity(0)
		}
	}
}

// badDisk lets one operation on files fail.
func (w *chaos) badDisk() (string, func()) {
	n := w.victim()
	if n == nil || n.full {
		return "", nil
	}
	w.count("disk error")
	at, kind := 1+w.rng.Int64N(20), []faultfs.Kind{faultfs.Write, faultfs.Sync, faultfs.Rename, faultfs.Create}[w.rng.IntN(4)]
	n.full = true // operations may fail
	n.faulty.SetFault(faultfs.Fault{At: at, Kinds: []faultfs.Kind{kind}, Short: w.rng.IntN(2) == 0})
	return fmt.Sprintf("%s of %s fails after %d", kind, n.host, at), func() {
		n.full = false
		if n.up && !n.dying.Load() {
			n.faulty.SetFault(faultfs.Fault{})
		}
		n.restart()
	}
}

// wrongClock lets the clock of a process, or of all, jump.
func (w *chaos) wrongClock() (string, func()) {
	w.count("clock jumps")
	jump := []int64{1, 60, 3600}[w.rng.IntN(3)] * 1000 * (w.rng.Int64N(20) - 10)
	clock, whose := &w.shift, "all"
	switch w.rng.IntN(3) {
	case 0:
		n := w.nodes[w.rng.IntN(len(w.nodes))]
		clock, whose = &n.skew, n.host
	case 1:
		s := w.reader()
		clock, whose = &s.skew, s.host
	}
	clock.Store(jump)
	return fmt.Sprintf("the clock of %s is wrong by %d ms", whose, jump), func() { clock.Store(0) }
}

// loseForGood takes a node away with its disk. An empty one takes its place, or none.
func (w *chaos) loseForGood() (string, func()) {
	n := w.victim()
	if n == nil || !slices.Contains(w.members, n.index) {
		return "", nil
	}
	lost := append(slices.Clone(w.lost), n.index)
	if w.place.enough(w.allNodes(), func(node int) bool { return slices.Contains(lost, node) }) {
		return "", nil
	}
	w.count("lost for good")
	w.lost = lost
	n.die(true)
	n.bury()
	n.disk = memfsEmpty()
	w.book.lose(n.index)
	if g := w.place.groupOf(n.index); w.rng.IntN(2) == 0 || len(w.levels) > 0 || len(w.place.inGroup(w.members, g)) <= w.place.within[g] {
		return n.host + " is lost with its disk, and replaced later", n.restart
	}
	n.gone = true
	w.members = slices.DeleteFunc(slices.Clone(w.members), func(i int) bool { return i == n.index })
	return n.host + " is lost for good", func() {}
}

func (w *chaos) allNodes() []int {
	var all []int
	for _, n := range w.nodes {
		all = append(all, n.index)
	}
	return all
}

// loseGroup kills all nodes of a group, for good if other groups have copies of everything.
func (w *chaos) loseGroup() (string, func()) {
	if len(w.place.within) == 1 {
		return "", nil
	}
	g := w.rng.IntN(len(w.place.within))
	nodes := w.place.inGroup(w.members, g)
	lost := append(slices.Clone(w.lost), nodes...)
	disks := w.rng.IntN(2) == 0 && !w.place.enough(w.allNodes(), func(node int) bool { return slices.Contains(lost, node) })
	w.count("a group lost")
	if disks {
		w.count("a group lost with its disks")
		w.lost = lost
	}
	for _, i := range nodes {
		n := w.nodes[i]
		if n.up {
			n.die(true)
			n.bury()
		}
		if disks {
			n.disk = memfsEmpty()
			w.book.lose(i)
		}
	}
	return fmt.Sprintf("all nodes of group %d are lost, with their disks: %t", g, disks), func() {
		for _, i := range nodes {
			w.nodes[i].restart()
		}
	}
}

// grow adds a node, of which one side of the cluster hears first.
func (w *chaos) grow() (string, func()) {
	if len(w.levels) > 0 || len(w.nodes) == maxChaosNodes || w.rng.IntN(2) == 0 {
		return "", nil
	}
	w.count("node added")
	n := w.addNode()
	w.members = append(slices.Clone(w.members), n.index)
	first := w.rng.IntN(3)
	if first != 0 {
		for _, in := range w.inserts {
			in.follow(w.members)
		}
	}
	if first != 1 {
		for _, s := range w.selects {
			s.follow(w.members)
		}
	}
	return fmt.Sprintf("%s is new; lists of inserts: %t, of selects: %t", n.host, first != 0, first != 1), nil
}

// relist lets a process know some of the nodes only.
func (w *chaos) relist() (string, func()) {
	list := w.some(w.members)
	if len(w.levels) > 0 || len(list) == len(w.members) {
		return "", nil
	}
	w.count("other lists")
	if w.rng.IntN(2) == 0 {
		in := w.inserts[w.rng.IntN(len(w.inserts))]
		in.follow(list)
		return fmt.Sprintf("%s knows nodes %v", in.host, list), func() { in.follow(w.members) }
	}
	s := w.reader()
	s.follow(list)
	return fmt.Sprintf("%s knows nodes %v", s.host, list), func() { s.follow(w.members) }
}

// dashboards are queries of which bounds can be told while samples arrive.
func dashboards() []string {
	return []string{`sum(count_over_time({__name__=~"m.+"}[5m])) by (group)`, `count_over_time(m1[3m])`, `sum(count_over_time(m0[2m]))`}
}

// dashboard returns one of them, mostly the same, so that readers have it in their caches.
func (w *chaos) dashboard() query.Request {
	texts := dashboards()
	r := w.request(texts[w.rng.IntN(len(texts))])
	if w.rng.IntN(4) > 0 {
		r.Query, r.Tenant = texts[w.seed%uint64(len(texts))], w.tenants[0]
	}
	return r
}

func (w *chaos) request(text string) query.Request {
	now := w.now().Truncate(30 * time.Second).UnixMilli()
	none := int64(0)
	r := query.Request{Tenant: w.tenants[w.rng.IntN(len(w.tenants))], Query: text, Start: now - 35*60_000, End: now + 30_000, Step: 30_000, LatencyOffset: &none}
	if w.rng.IntN(4) == 0 {
		r.Start, r.Step = r.End-w.rng.Int64N(1800_000), 0
	}
	return r
}
