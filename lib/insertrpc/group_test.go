package insertrpc

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
)

// gate is an Ingester that tells of each batch and waits until it may go on.
type gate struct {
	entered chan int // rows of the batch
	answer  chan error
}

func newGate() *gate { return &gate{entered: make(chan int, 100), answer: make(chan error, 100)} }

func (g *gate) Ingest(ctx context.Context, b *model.Batch) error {
	g.entered <- b.Rows()
	select {
	case err := <-g.answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// gatedClient returns a client of a node behind a gate, whose batches wait for each other for the given time.
func gatedClient(t *testing.T, delay time.Duration) (*Client, *gate) {
	n, g := newNode(t), newGate()
	n.serve(func(o *ServerOptions) { o.Ingester = g })
	return n.client(func(o *ClientOptions) { o.Config.JoinDelay = delay }), g
}

// start ingests n rows in a goroutine.
func start(t *testing.T, ctx context.Context, c *Client, n int) chan error {
	var b model.Batch
	scrape(t, &b, n, 0)
	done := make(chan error, 1)
	go func() { done <- c.Ingest(ctx, &b) }()
	return done
}

func (q *groups) waitingParts() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.mu.open == nil {
		return 0
	}
	return len(q.mu.open.parts)
}

func TestBatchesTravelTogether(t *testing.T) {
	ctx := context.Background()
	c, g := gatedClient(t, time.Hour)
	first := start(t, ctx, c, 10)
	if rows := <-g.entered; rows != 10 { // alone, it does not wait
		t.Fatalf("got %d rows", rows)
	}
	second, third := start(t, ctx, c, 20), start(t, ctx, c, 30)
	eventually(t, "two batches wait for the answer", func() bool { return c.groups.waitingParts() == 2 })
	// Those who were answered are waited for.
	g.answer <- nil
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	if n := c.groups.waitingParts(); n != 2 {
		t.Fatalf("%d batches wait for the first sender", n)
	}
	first = start(t, ctx, c, 40)
	if rows := <-g.entered; rows != 90 {
		t.Fatalf("got %d rows in one request", rows)
	}
	g.answer <- nil
	for _, done := range []chan error{first, second, third} {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestFullGroupDoesNotWait(t *testing.T) {
	ctx := context.Background()
	c, g := gatedClient(t, time.Hour)
	first := start(t, ctx, c, 10)
	<-g.entered
	second := start(t, ctx, c, enoughRows)
	if rows := <-g.entered; rows != enoughRows {
		t.Fatalf("got %d rows", rows)
	}
	g.answer <- nil
	g.answer <- nil
	for _, done := range []chan error{first, second} {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestWaitIsBounded(t *testing.T) {
	ctx := context.Background()
	c, g := gatedClient(t, time.Millisecond)
	first := start(t, ctx, c, 10)
	<-g.entered
	second := start(t, ctx, c, 20) // while the first one hangs
	if rows := <-g.entered; rows != 20 {
		t.Fatalf("got %d rows", rows)
	}
	g.answer <- nil
	g.answer <- nil
	for _, done := range []chan error{first, second} {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	// One more waits for nobody to come, and the next ones believe that nobody will.
	third := start(t, ctx, c, 30)
	<-g.entered
	g.answer <- nil
	if err := <-third; err != nil {
		t.Error(err)
	}
}

// TestAbandonedPart gives up calls before and while their batches are sent.
func TestAbandonedPart(t *testing.T) {
	c, g := gatedClient(t, time.Hour)
	first := start(t, context.Background(), c, 10)
	<-g.entered
	ctx, cancel := context.WithCancel(context.Background())
	second := start(t, ctx, c, 20)
	eventually(t, "it waits", func() bool { return c.groups.waitingParts() == 1 })
	cancel()
	if err := <-second; errkind.Of(err) != errkind.Canceled {
		t.Errorf("got %v", err)
	}
	if n := c.groups.waitingParts(); n != 0 {
		t.Errorf("%d batches wait", n)
	}
	// Two travel together, and one of their senders gives up: the other one gets its answer.
	ctx, cancel = context.WithCancel(context.Background())
	third := start(t, ctx, c, 30)
	eventually(t, "it waits", func() bool { return c.groups.waitingParts() == 1 })
	fourth := start(t, context.Background(), c, enoughRows)
	if rows := <-g.entered; rows != 30+enoughRows {
		t.Fatalf("got %d rows", rows)
	}
	cancel()
	if err := <-third; errkind.Of(err) != errkind.Canceled {
		t.Errorf("got %v", err)
	}
	g.answer <- nil
	g.answer <- nil
	for _, done := range []chan error{first, fourth} {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestAllAbandon: when nobody waits for a group any more, the node hears of it.
func TestAllAbandon(t *testing.T) {
	c, g := gatedClient(t, time.Hour)
	first := start(t, context.Background(), c, 10)
	<-g.entered
	ctx, cancel := context.WithCancel(context.Background())
	second, third := start(t, ctx, c, 20), start(t, ctx, c, 30)
	eventually(t, "two wait", func() bool { return c.groups.waitingParts() == 2 })
	large := start(t, ctx, c, enoughRows)
	if rows := <-g.entered; rows != 50+enoughRows {
		t.Fatalf("got %d rows", rows)
	}
	cancel()
	for _, done := range []chan error{second, third, large} {
		if err := <-done; errkind.Of(err) != errkind.Canceled {
			t.Errorf("got %v", err)
		}
	}
	g.answer <- nil // for the first; the group's context has ended at the node
	if err := <-first; err != nil {
		t.Error(err)
	}
	eventually(t, "nothing is under way", func() bool {
		c.groups.mu.Lock()
		defer c.groups.mu.Unlock()
		return c.groups.mu.flying == 0 && c.groups.mu.callers == 0
	})
}

// TestFaultyBatchHarmsNoOther puts a batch which can not be sent between others.
func TestFaultyBatchHarmsNoOther(t *testing.T) {
	c, g := gatedClient(t, time.Hour)
	ctx := context.Background()
	first := start(t, ctx, c, 10)
	<-g.entered
	var faulty model.Batch
	labels := []model.Label{{Name: model.MetricNameLabel, Value: "m"}, {Name: "long", Value: strings.Repeat("x", maxKeyBytes)}}
	if err := faulty.AddSeries(model.TenantID{}, labels); err != nil {
		t.Fatal(err)
	}
	faulty.AddSample(1, 1)
	refused := make(chan error, 1)
	go func() { refused <- c.Ingest(ctx, &faulty) }()
	eventually(t, "the faulty one waits", func() bool { return c.groups.waitingParts() == 1 })
	good := start(t, ctx, c, enoughRows)
	if err := <-refused; errkind.Of(err) != errkind.BadRequest {
		t.Errorf("got %v", err)
	}
	if rows := <-g.entered; rows != enoughRows {
		t.Errorf("got %d rows", rows)
	}
	g.answer <- nil
	g.answer <- nil
	for _, done := range []chan error{first, good} {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestFailureOfGroup gives every sender the failure of the node.
func TestFailureOfGroup(t *testing.T) {
	c, g := gatedClient(t, time.Hour)
	ctx := context.Background()
	first := start(t, ctx, c, 10)
	<-g.entered
	second := start(t, ctx, c, 20)
	eventually(t, "one waits", func() bool { return c.groups.waitingParts() == 1 })
	third := start(t, ctx, c, enoughRows)
	<-g.entered
	full := errkind.New(errkind.ReadOnly, "disk full")
	g.answer <- full
	g.answer <- full
	var wg sync.WaitGroup
	for _, done := range []chan error{first, second, third} {
		wg.Go(func() {
			if err := <-done; errkind.Of(err) != errkind.ReadOnly {
				t.Errorf("got %v", err)
			}
		})
	}
	wg.Wait()
}
