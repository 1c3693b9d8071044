package clustertest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cespare/xxhash/v2"

	"vmcluster/lib/errkind"
	"vmcluster/lib/flagvalue"
	"vmcluster/lib/fragment"
	"vmcluster/lib/gather"
	"vmcluster/lib/insertrpc"
	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/multitenant"
	"vmcluster/lib/query"
	"vmcluster/lib/querysource"
	"vmcluster/lib/router"
	"vmcluster/lib/selectrpc"
	"vmcluster/lib/storage"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/transport"
	"vmcluster/lib/vfs/faultfs"
	"vmcluster/lib/vfs/memfs"
)

const (
	chaosBudget  = 64 << 20
	chaosMinFree = 64 << 10
)

// chaos is one random history of a cluster in a bubble of testing/synctest, in which time passes only while everybody waits.
type chaos struct {
	t       *testing.T
	seed    uint64
	rng     *rand.Rand
	net     *fabric
	book    *ledger
	born    time.Time
	base    time.Time     // what the clocks said then
	shift   atomic.Int64  // by how many milliseconds all clocks are wrong
	budgets []*namedLimit // of all processes there ever were
	logger  *logger.Logger

	place   placement
	skips   bool // readers do without slow nodes
	tenants []model.TenantID
	nodes   []*chaosNode
	members []int // nodes which belong to the cluster
	inserts []*chaosInsert
	selects []*chaosSelect
	levels  []*chaosLevel // none: all know the storage nodes

	feed   *chaosFeed
	faults []chaosFault // those that last
	lost   []int        // nodes lost with their disks
	ops    sync.WaitGroup
	flying atomic.Int64
	tally  chaosTally

	mu struct {
		sync.Mutex
		history []string
		failure string
		short   int // rows which were acknowledged with too few copies
		answers map[string]int
	}
}

type namedLimit struct {
	*memory.Budget
	name string
}

func (w *chaos) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.history = append(w.mu.history, fmt.Sprintf("%9.4f ", time.Since(w.born).Seconds())+fmt.Sprintf(format, args...))
}

// failf notes the first thing that is wrong. The history ends soon.
func (w *chaos) failf(format string, args ...any) {
	w.note("FAILED: "+format, args...)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.failure == "" {
		w.mu.failure = fmt.Sprintf(format, args...)
	}
}

func (w *chaos) failed() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.failure
}

// now is the right time.
func (w *chaos) now() time.Time { return w.base.Add(time.Since(w.born)) }

// clock returns the clock of a process, which may be wrong by itself and with all others.
func (w *chaos) clock(skew *atomic.Int64) func() time.Time {
	return func() time.Time { return w.now().Add(time.Duration(w.shift.Load()+skew.Load()) * time.Millisecond) }
}

func (w *chaos) budget(name string) *memory.Budget {
	b := memory.NewBudget(chaosBudget)
	w.budgets = append(w.budgets, &namedLimit{b, name})
	return b
}

// transportConfig has no chance in it but that of the seed.
func (w *chaos) transportConfig(host, addr string) transport.ClientConfig {
	rng := rand.New(rand.NewPCG(w.seed, xxhash.Sum64String(host+" "+addr)))
	return transport.ClientConfig{Jitter: func(d time.Duration) time.Duration { return time.Duration(rng.Int64N(int64(d) + 1)) }}
}

// chaosNode is a storage node.
type chaosNode struct {
	w        *chaos
	index    int
	host     string
	skew     atomic.Int64
	disk     *memfs.FS
	rng      *rand.Rand // of what its disk keeps
	cfg      storage.Config
	full     bool        // its disk is
	mute     atomic.Bool // it answers but gives no samples
	gone     bool        // with its disk
	up       bool
	faulty   *faultfs.FS
	store    *storage.Storage
	inserts  *insertrpc.Server
	selects  *selectrpc.Server
	serving  sync.WaitGroup
	dying    *atomic.Bool
	survived *memfs.FS // what a power failure has left
}

func (w *chaos) addNode() *chaosNode {
	n := &chaosNode{w: w, index: len(w.nodes), host: fmt.Sprintf("node%d", len(w.nodes)), disk: memfs.New(memfs.Options{})}
	n.rng = rand.New(rand.NewPCG(w.seed, uint64(1000+n.index)))
	n.cfg = storage.DefaultConfig("/data")
	n.cfg.RetentionPeriod = flagvalue.NewRetention("10y")
	n.cfg.MinFreeDiskSpaceBytes = chaosMinFree
	if w.rng.IntN(3) == 0 {
		n.cfg.HeadMaxBytes = flagvalue.Bytes(20_000 + w.rng.IntN(60_000))
	}
	w.nodes = append(w.nodes, n)
	n.start()
	return n
}

// recorder notes what is durable on a node, and lets it be one that gives no samples.
type recorder struct {
	storageapi.Ingester
	storageapi.Searcher
	storageapi.Catalog
	storageapi.Reducer
	n     *chaosNode
	dying *atomic.Bool
}

// Ingest implements storageapi.Ingester.
func (r *recorder) Ingest(ctx context.Context, b *model.Batch) error {
	book := r.n.w.book
	began := book.attempt(r.n.index, b)
	err := r.dead(r.Ingester.Ingest(ctx, b))
	book.attempted(r.n.index, b, began, err == nil)
	return err
}

// dead returns the error of a call, or that of one whose answer nobody hears.
func (r *recorder) dead(err error) error {
	if err == nil && r.dying.Load() {
		return errkind.New(errkind.Unavailable, "the process is dead")
	}
	return err
}

// DeleteSeries implements storageapi.Catalog.
func (r *recorder) DeleteSeries(ctx context.Context, q *model.SearchQuery) (int, error) {
	book := r.n.w.book
	d := book.beginDeletion(r.n.index, q)
	n, err := r.Catalog.DeleteSeries(ctx, q)
	err = r.dead(err)
	book.endDeletion(r.n.index, d, err == nil)
	return n, err
}

// Search implements storageapi.Searcher.
func (r *recorder) Search(ctx context.Context, q *model.SearchQuery) (storageapi.SeriesIterator, error) {
	if r.n.mute.Load() {
		return nil, errkind.New(errkind.Unavailable, "it gives no samples")
	}
	return r.Searcher.Search(ctx, q)
}

// Reduce implements storageapi.Reducer.
func (r *recorder) Reduce(ctx context.Context, f *fragment.Fragment) (storageapi.Reduction, error) {
	if r.n.mute.Load() {
		return storageapi.Reduction{}, errkind.New(errkind.Unavailable, "it gives no samples")
	}
	return r.Reducer.Reduce(ctx, f)
}

// start opens the storage of a node and serves it.
func (n *chaosNode) start() {
	w, set, budget := n.w, metrics.NewSet(), n.w.budget(n.host)
	n.faulty, n.dying, n.survived = faultfs.New(n.disk), &atomic.Bool{}, nil
	db, err := storage.Open(n.cfg, storage.Options{
		FS: n.faulty, Logger: w.logger, Metrics: set, Budget: budget, Now: w.clock(&n.skew), OnFailure: func(error) { n.die(false) },
	})
	if err != nil {
		if n.full && errors.Is(err, syscall.ENOSPC) {
			n.w.note("%s does not start: %s", n.host, err)
			return
		}
		w.failf("cannot open the storage of %s: %s", n.host, err)
		return
	}
	n.store, n.up = db, true
	reduce := querysource.NewReducer(querysource.ReducerOptions{Searcher: db, Logger: w.logger, Metrics: set, Budget: budget})
	r := &recorder{Ingester: db, Searcher: db, Catalog: db, Reducer: reduce, n: n, dying: n.dying}
	n.inserts = insertrpc.NewServer(insertrpc.ServerOptions{
		Ingester: r, Config: insertrpc.ServerConfig{MaxConcurrentInserts: 4, Transport: transport.ServerConfig{ShutdownSpread: flagvalue.Duration(time.Second)}},
		Logger: w.logger, Metrics: set, Budget: budget,
	})
	n.selects = selectrpc.NewServer(selectrpc.ServerOptions{
		Searcher: r, Admin: db, Catalog: r, Reducer: r, Versioner: db, Config: selectrpc.ServerConfig{MaxConcurrentRequests: 4}, Logger: w.logger, Metrics: set,
	})
	w.net.join(n.host)
	n.serve(":8400", n.inserts.Serve)
	n.serve(":8401", n.selects.Serve)
}

func (n *chaosNode) serve(port string, serve func(net.Listener) error) {
	ln, err := n.w.net.listen(n.host + port)
	if err != nil {
		n.w.failf("%s", err)
		return
	}
	n.serving.Go(func() { _ = serve(ln) }) // ends when the server is closed
}

// die is the end of the process, or of its power. It may be called in the middle of an operation on files.
func (n *chaosNode) die(power bool) {
	if n.dying.Swap(true) {
		return
	}
	n.w.net.cut(n.host, power)
	if power {
		n.survived = n.disk.Crash(n.rng)
	}
	n.faulty.SetFault(faultfs.Fault{At: 1, Sticky: true})
}

// bury frees what a dead process has left.
func (n *chaosNode) bury() {
	if !n.up || !n.dying.Load() {
		return
	}
	n.inserts.Close()
	n.selects.Close()
	n.serving.Wait()
	_ = n.store.Close() // it cannot write what it wants to
	n.up = false
	if n.survived != nil {
		n.disk = n.survived
	}
}

// stop ends the process gracefully.
func (n *chaosNode) stop() {
	if !n.up {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 6*time.Second)
	defer cancel()
	_ = n.inserts.Shutdown(ctx) // what does not end in time is cut off
	_ = n.selects.Shutdown(ctx)
	n.serving.Wait()
	if err := n.store.Close(); err != nil && !n.full && !n.dying.Load() {
		n.w.failf("cannot close the storage of %s: %s", n.host, err)
	}
	n.up = false
	if n.survived != nil {
		n.disk = n.survived
	}
}

// chaosInsert is a vminsert.
type chaosInsert struct {
	w       *chaos
	host    string
	budget  *memory.Budget
	set     *metrics.Set
	clients map[int]*insertrpc.Client
	groups  []*router.Router // one for each group
	router  *router.Router
	listed  []int
	above   []*insertrpc.Client // of levels
}

func (w *chaos) insertAt(host string) *chaosInsert {
	in := &chaosInsert{w: w, host: host, set: metrics.NewSet(), clients: map[int]*insertrpc.Client{}}
	in.budget = w.budget(in.host)
	return in
}

func (w *chaos) addInsert() {
	in := w.insertAt(fmt.Sprintf("insert%d", len(w.inserts)))
	w.inserts = append(w.inserts, in)
	if len(w.levels) > 0 {
		in.aboveLevels()
		return
	}
	for g, nodes := range in.connect(w.members) {
		in.groups = append(in.groups, in.newRouter(w.place.within[g], nodes))
	}
	in.router = in.groups[0]
	if len(in.groups) > 1 { // an agent which writes to the vminserts of the groups
		var nodes []router.Node
		for g, r := range in.groups {
			nodes = append(nodes, router.Node{Name: w.place.name(g), Ingester: r})
		}
		in.router = in.newRouter(w.place.across, nodes)
	}
}

func (in *chaosInsert) newRouter(copies int, nodes []router.Node) *router.Router {
	r, err := router.New(router.Options{Config: router.Config{ReplicationFactor: copies}, Nodes: nodes, Logger: in.w.logger, Metrics: in.set, Budget: in.budget})
	if err != nil {
		in.w.failf("%s", err)
	}
	return r
}

// connect returns the nodes of each group.
func (in *chaosInsert) connect(list []int) [][]router.Node {
	in.listed = list
	nodes := make([][]router.Node, len(in.w.place.within))
	for _, i := range list {
		addr := in.w.nodes[i].host + ":8400"
		if in.clients[i] == nil {
			in.clients[i] = insertrpc.NewClient(insertrpc.ClientOptions{
				Addr: addr, Dial: in.w.net.dialer(in.host), Config: insertrpc.ClientConfig{Transport: in.w.transportConfig(in.host, in.w.nodes[i].host)},
				Logger: in.w.logger, Metrics: in.set, Budget: in.budget,
			})
		}
		g := in.w.place.groupOf(i)
		nodes[g] = append(nodes[g], router.Node{Name: addr, Ingester: in.clients[i], Reachable: in.clients[i].Reachable})
	}
	return nodes
}

// follow makes another list of nodes the one to write to.
func (in *chaosInsert) follow(list []int) {
	if slices.Equal(list, in.listed) {
		return
	}
	unused := true
	for g, nodes := range in.connect(list) {
		done, err := in.groups[g].SetNodes(nodes)
		if err != nil {
			in.w.failf("%s", err)
			return
		}
		select {
		case <-done:
		default: // the next change, or the end, closes former connections
			unused = false
		}
	}
	if unused {
		retireClients(in.clients, in.listed)
	}
}

// retire lets the connections to former nodes be closed when nobody uses them.
func (w *chaos) retire(unused <-chan struct{}, do func()) {
	select {
	case <-unused:
		do()
	default: // the next change, or the end, closes them
	}
}

func retireClients[C interface {
	Close() error
	RemoveMetrics()
}](clients map[int]C, listed []int) {
	keep := map[int]bool{}
	for _, i := range listed {
		keep[i] = true
	}
	for i, c := range clients {
		if !keep[i] {
			_ = c.Close() // never fails
			c.RemoveMetrics()
			delete(clients, i)
		}
	}
}

// incomplete is how many rows the insert node says it could not copy often enough.
func (in *chaosInsert) incomplete() int {
	return int(in.set.Counter(`vm_rpc_rows_incompletely_replicated_total{name="vminsert"}`).Get())
}

// chaosSelect is a vmselect.
type chaosSelect struct {
	w             *chaos
	host          string
	skew          atomic.Int64
	budget        *memory.Budget
	set           *metrics.Set
	clients       map[int]*selectrpc.Client
	gather        *gather.Gather
	everyone      *multitenant.Searcher
	cached, plain *query.Engine
	listed        []int
	above         []*selectrpc.Client // of levels
	lists         [][]int             // all there were; guarded by chaos.mu
}

func (w *chaos) selectAt(host string) *chaosSelect {
	s := &chaosSelect{w: w, host: host, set: metrics.NewSet(), clients: map[int]*selectrpc.Client{}}
	s.budget = w.budget(s.host)
	return s
}

func (s *chaosSelect) newGather(nodes []gather.Node, cfg gather.Config) *gather.Gather {
	g, err := gather.New(gather.Options{Nodes: nodes, Config: cfg, Logger: s.w.logger, Metrics: s.set, Now: s.w.clock(&s.skew)})
	if err != nil {
		s.w.failf("%s", err)
	}
	return g
}

func (w *chaos) addSelect() {
	s := w.selectAt(fmt.Sprintf("select%d", len(w.selects)))
	now := w.clock(&s.skew)
	if len(w.levels) > 0 {
		s.aboveLevels()
	} else {
		s.gather = s.newGather(s.connect(w.members), w.place.readConfig(w.skips))
	}
	s.everyone = multitenant.New(multitenant.Options{Stores: s.gather, Config: &multitenant.Config{}, Metrics: s.set, Now: now})
	cfg := chaosQueries(flagvalue.Duration(time.Minute))
	options := query.Options{Source: querysource.New(s.everyone, s.everyone, query.Reading{}), Logger: w.logger, Metrics: s.set, Budget: s.budget, Now: now}
	s.plain = query.New(cfg, options)
	options.Cache = query.NewCache(query.CacheOptions{Versions: querysource.Versioner(s.gather), Budget: s.budget, Metrics: s.set})
	s.cached = query.New(cfg, options)
	w.selects = append(w.selects, s)
}

func chaosQueries(cacheOffset flagvalue.Duration) *query.Config {
	return &query.Config{MaxPointsPerSeries: 30_000, MaxSamplesPerQuery: 1e9, CacheTimestampOffset: cacheOffset, MaxWorkersPerQuery: 1}
}

func (s *chaosSelect) connect(list []int) []gather.Node {
	s.listed = list
	s.w.mu.Lock()
	s.lists = append(s.lists, list)
	s.w.mu.Unlock()
	var nodes []gather.Node
	for _, i := range list {
		addr := s.w.nodes[i].host + ":8401"
		if s.clients[i] == nil {
			s.clients[i] = selectrpc.NewClient(selectrpc.ClientOptions{Addr: addr, Dial: s.w.net.dialer(s.host), Config: s.w.transportConfig(s.host, s.w.nodes[i].host), Logger: s.w.logger, Metrics: s.set})
		}
		c := s.clients[i]
		nodes = append(nodes, gather.Node{Name: addr, Group: s.w.place.name(s.w.place.groupOf(i)), Searcher: c, Catalog: c, Reducer: c, Metadata: c, Versioner: c})
	}
	return nodes
}

// follow makes another list of nodes the one to read from.
func (s *chaosSelect) follow(list []int) {
	if slices.Equal(list, s.listed) {
		return // and what the cache keeps stays
	}
	unused, err := s.gather.SetNodes(s.connect(list))
	if err != nil {
		s.w.failf("%s", err)
		return
	}
	s.w.retire(unused, func() { retireClients(s.clients, s.listed) })
}

// ask is a question of this reader.
func (s *chaosSelect) ask(q model.SearchQuery) *question {
	return &question{SearchQuery: q, began: s.w.book.now(), lists: [][]int{s.listed}, place: &s.w.place, skips: s.w.skips}
}

// since returns the lists of a question which takes several calls, the first of which was made when there were so many.
func (s *chaosSelect) since(lists int) [][]int {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	return slices.Clone(s.lists[lists-1:])
}

// coverage translates what an answer says of itself.
func (s *chaosSelect) coverage(c storageapi.Coverage) coverage {
	out := coverage{partial: c.Partial, failed: map[int]bool{}}
	for _, f := range c.Failed {
		for _, l := range s.w.levels {
			if strings.HasPrefix(f.Node, l.host+":") {
				for _, n := range l.in.listed {
					out.failed[n] = true
				}
			}
		}
		for _, n := range s.w.nodes {
			if strings.HasPrefix(f.Node, n.host+":") {
				out.failed[n.index] = true
			}
		}
	}
	return out
}

// shape chooses where copies are, and returns the number of nodes.
func (w *chaos) shape() int {
	if w.rng.IntN(3) > 0 {
		nodes := 1 + w.rng.IntN(6)
		w.place = placement{within: []int{1 + w.rng.IntN(min(3, nodes))}, across: 1}
		return nodes
	}
	groups := 2 + w.rng.IntN(2)
	size := 1 + w.rng.IntN(6/groups)
	w.place.across = 1 + w.rng.IntN(2)
	for range groups {
		w.place.within = append(w.place.within, 1+w.rng.IntN(size))
	}
	return groups * size
}

// newChaos starts a cluster.
func newChaos(t *testing.T, seed uint64) *chaos {
	w := &chaos{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 0)), net: newFabric(seed), book: newLedger(), born: time.Now(), logger: logger.Discard(), tally: chaosTally{}}
	w.base = time.Date(2026, 3, 1, 0, 10, 0, 0, time.UTC).Add(time.Duration(w.rng.IntN(40)) * time.Hour) // the data may begin in another month
	nodes := w.shape()
	for i := range 1 + w.rng.IntN(3) {
		w.tenants = append(w.tenants, model.TenantID{AccountID: uint32(i), ProjectID: uint32(i * i)})
	}
	for range nodes {
		w.members = append(w.members, w.addNode().index)
	}
	w.skips = w.rng.IntN(3) == 0
	if len(w.place.within) > 1 && w.rng.IntN(2) == 0 {
		w.count("with levels")
		for range w.place.within {
			w.addLevel()
		}
	}
	for range 1 + w.rng.IntN(3) {
		w.addInsert()
	}
	for range 2 + w.rng.IntN(2) {
		w.addSelect()
	}
	w.mu.answers = map[string]int{}
	w.feed = newChaosFeed(w)
	w.note("%d nodes, %s, %d levels, %d inserts, %d selects, %d tenants, slow nodes skipped: %t", nodes, &w.place, len(w.levels), len(w.inserts), len(w.selects), len(w.tenants), w.skips)
	return w
}

// close ends all processes. Nothing may be left of them.
func (w *chaos) close() {
	for _, in := range w.inserts {
		retireClients(in.clients, nil)
	}
	for _, s := range w.selects {
		retireClients(s.clients, nil)
	}
	w.closeLevels()
	w.ops.Wait()
	for what, n := range w.mu.answers {
		w.tally[what] += n
	}
	for _, in := range w.inserts {
		w.tally["rerouted rows"] += int(in.set.Counter(`vm_rpc_rerouted_rows_processed_total{name="vminsert"}`).Get())
	}
	for _, s := range w.selects {
		s.cached.ResetCache()
		for what, name := range map[string]string{"cache hits": "vm_rollup_result_cache_partial_hits_total", "fragments of storage nodes": `vm_query_fragments_total{evaluated_by="storage"}`} {
			w.tally[what] += int(s.set.Counter(name).Get())
		}
	}
	for _, n := range w.nodes {
		n.bury()
		n.stop()
	}
	synctest.Wait()
	for _, b := range w.budgets {
		if used := b.Used(); used != 0 {
			w.failf("%d bytes of the memory of %s are in use after its end", used, b.name)
		}
	}
}
