package apptest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// What happens to the odd target, by the number of scrapes.
const (
	oddRestart = 8  // odd_restarted_total starts again
	oddBlink   = 8  // odd_blink is away
	oddBack    = 11 // and is back
	oddVanish  = 12 // odd_vanishing goes for good
	oddDip     = 13 // odd_dipping_total falls a little
	oddLeave   = 14 // the leaving target goes
)

// stampedBeforeMs is how much before a scrape the timestamps are which the odd target gives itself. It is
// less than a second, so that no samples appear late at the times of evaluation.
const stampedBeforeMs = 700

// oddTarget exposes what is hard to carry: special floats, resets, series that come and go.
// Most values follow from the number of the scrape.
type oddTarget struct {
	server   *httptest.Server
	interval time.Duration // of the scrapes
	rng      *rand.Rand    // used by one scrape at a time
	n        atomic.Int64
	firstMs  atomic.Int64 // timestamp of odd_regular in the first scrape
}

func startOddTarget(t testing.TB, seed uint64, interval time.Duration) *oddTarget {
	o := &oddTarget{interval: interval, rng: rand.New(rand.NewPCG(seed, 1))}
	o.server = httptest.NewServer(o)
	t.Cleanup(o.server.Close)
	return o
}

// ServeHTTP answers a scrape. There is one scraper, which waits for the answer.
func (o *oddTarget) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	o.firstMs.CompareAndSwap(0, time.Now().UnixMilli()-stampedBeforeMs)
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write([]byte(o.page(int(o.n.Load())))) // the scraper notices
	o.n.Add(1)
}

// page returns the exposition of scrape n, counted from 0.
func (o *oddTarget) page(n int) string {
	x := float64(n)
	var p oddPage
	p.add(`odd_requests_total{method="get",code="200"}`, 17*x+x*x)
	p.add(`odd_requests_total{method="get",code="500"}`, 3*x+1)
	p.add(`odd_requests_total{method="post",code="200"}`, 11*x+5)
	p.add(`odd_requests_total{method="post",code="404"}`, math.Floor(x/2))
	p.add(`odd_limit{method="get"}`, 1000)
	p.add(`odd_limit{method="post"}`, 500)
	p.add(`odd_limit{method="put"}`, 10)
	p.add(`odd_temperature{room="attic"}`, 20+5*math.Sin(x/3))
	p.add(`odd_temperature{room="cellar"}`, 12.5-x/10)
	p.add(`odd_temperature{room="hall"}`, 18+float64(n%4)*0.3)
	p.add("odd_alternating", float64(1+n%2))
	p.add("odd_ratio", math.Sin(x)*0.9)
	p.add("odd_signed", 7.25-1.5*x)
	p.add("odd_constant", 42)
	p.buckets(x)
	p.comeAndGo(n)
	p.special(n, o.rng)
	// The scrapes of a busy machine are not quite regular. These timestamps are.
	fmt.Fprintf(&p, "odd_regular %v %d\n", 7.25-1.5*x, o.firstMs.Load()+int64(n)*o.interval.Milliseconds())
	return p.String()
}

// oddPage is a text exposition being written.
type oddPage struct{ strings.Builder }

func (p *oddPage) add(series string, v float64) {
	p.WriteString(series + " " + strconv.FormatFloat(v, 'g', -1, 64) + "\n")
}

func (p *oddPage) buckets(x float64) {
	for _, b := range []struct {
		le string
		n  float64
	}{{"0.1", x}, {"1", 4*x + 2}, {"10", 9*x + 3}, {"100", 10*x + 3}, {"+Inf", 11*x + 4}} {
		p.add(`odd_size_bucket{kind="in",le="`+b.le+`"}`, b.n)
		p.add(`odd_size_bucket{kind="out",le="`+b.le+`"}`, math.Floor(b.n/3))
		p.add(`odd_size_bucket{kind="none",le="`+b.le+`"}`, 0)
	}
	p.add(`odd_size_sum{kind="in"}`, 123.5*x)
	p.add(`odd_size_count{kind="in"}`, 11*x+4)
}

func (p *oddPage) comeAndGo(n int) {
	restarted := 1000 + 50*n
	if n >= oddRestart {
		restarted = 3 + 7*(n-oddRestart)
	}
	p.add("odd_restarted_total", float64(restarted))
	dipping := 1000 + 10*n
	if n >= oddDip {
		dipping -= 50
	}
	p.add("odd_dipping_total", float64(dipping))
	if n < oddBlink || n >= oddBack {
		p.add("odd_blink", float64(n))
	}
	if n < oddVanish {
		p.add(`odd_vanishing{text="日本語",quoted="say \"hi\"",slash="a\\b",lines="one\ntwo",emoji="🙂"}`, float64(n))
	}
	stamp := time.Now().UnixMilli() - stampedBeforeMs
	fmt.Fprintf(p, "odd_stamped %d %d\n", n, stamp)
	if n < oddVanish {
		fmt.Fprintf(p, "odd_fading %d %d\n", n, stamp) // ends without a stale marker, because of the timestamps
	}
}

func (p *oddPage) special(n int, rng *rand.Rand) {
	negativeZero := math.Copysign(0, -1)
	p.add("odd_zero", []float64{0, negativeZero}[n%2])
	p.add("odd_infinite", []float64{math.Inf(1), math.Inf(-1), 1}[n%3])
	p.add("odd_nan", []float64{math.NaN(), float64(n), float64(-n)}[n%3])
	p.add("odd_always_nan", math.NaN())
	p.add(`odd_float{kind="largest"}`, math.MaxFloat64)
	p.add(`odd_float{kind="smallest"}`, math.SmallestNonzeroFloat64)
	p.add(`odd_float{kind="subnormal"}`, -float64(n)*1e-310)
	p.add(`odd_float{kind="tenths"}`, float64(n)*0.1)
	p.add(`odd_float{kind="integer"}`, float64(1<<53-n))
	random := math.Float64frombits(rng.Uint64())
	if math.IsNaN(random) {
		random = 0
	}
	p.add(`odd_float{kind="random"}`, random)
}

// startLeavingTarget starts a target which the test takes away.
func startLeavingTarget(t testing.TB) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("leaving_gauge 1.5\nleaving_total 7\n")) // the scraper notices
	}))
	t.Cleanup(s.Close)
	return s
}
