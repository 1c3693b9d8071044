package bench

import (
	"math"
	"math/rand/v2"
	"strings"
)

// cpuTicks is the CPU time in an interval, in units of node_cpu_seconds_total.
const cpuTicks = 100 * scrapeSeconds

// host simulates the targets of one host. Only its own generator and time
// drive it, so a dataset does not depend on the number of hosts around it.
type host struct {
	rng      *rand.Rand
	targets  []*target
	state    [][]float64 // in units, by target and template
	bases    [][]float64 // gauges: the value to return to, in units
	factor   float64     // how busy this host is
	load     float64     // slowly moving load around 1
	busy     float64     // of the current step: factor, load and hour of the day
	growth   float64     // of the current histogram in this step, up to the current bucket
	phase    float64     // of the daily load cycle
	offsetMs int64       // of its scrapes within the interval
	fresh    bool
}

func newHost(rng *rand.Rand, targets []*target) *host {
	h := &host{rng: rng, targets: targets}
	for _, t := range targets {
		h.state = append(h.state, make([]float64, len(t.templates)))
		h.bases = append(h.bases, make([]float64, len(t.templates)))
	}
	h.offsetMs = rng.Int64N(scrapeSeconds * 1000)
	h.reset(1 + rng.ExpFloat64()*2000)
	return h
}

// reset starts the host anew, as if it had been up for the given multiple of
// the captured host's uptime.
func (h *host) reset(uptime float64) {
	h.factor, h.load, h.phase, h.fresh = math.Exp(h.rng.NormFloat64()*0.7), 1, h.rng.Float64()*2*math.Pi, true
	size := math.Exp(h.rng.NormFloat64() * 0.5) // bigger hosts have bigger gauges
	for i, t := range h.targets {
		for j := range t.templates {
			v := h.initial(&t.templates[j], uptime, size)
			h.state[i][j], h.bases[i][j] = v, v
		}
	}
}

// initial returns the value, in units, with which a series begins.
func (h *host) initial(tpl *template, uptime, size float64) float64 {
	v := tpl.inUnits(tpl.value)
	switch {
	case strings.HasSuffix(tpl.name(), "_time_seconds"):
	case tpl.kind == kindGauge || tpl.kind == kindConst && tpl.value >= 1e6:
		v *= size
	case tpl.kind == kindBucket || tpl.kind == kindCount:
		v = math.Round(v * uptime)
	case tpl.kind != kindConst:
		v *= uptime * h.factor
	}
	if tpl.kind != kindSum && tpl.kind != kindConst || tpl.value >= 1e6 {
		v = math.Round(v)
	}
	return v
}

// restart zeroes the counters, as a reboot does.
func (h *host) restart() {
	for i, t := range h.targets {
		for j := range t.templates {
			switch k := t.templates[j].kind; {
			case k == kindConst, k == kindGauge, k == kindSynth, t.templates[j].name() == "node_time_seconds":
			default:
				h.state[i][j] = 0
			}
		}
	}
}

// draw returns a random whole number of events around the mean.
func (h *host) draw(mean float64) float64 {
	if mean <= 0 {
		return 0
	}
	if mean > 20 {
		return max(0, math.Round(mean+h.rng.NormFloat64()*(math.Sqrt(mean)+0.1*mean)))
	}
	limit, n := math.Exp(-mean), 0.0 // Poisson by products of uniforms (Knuth)
	for p := h.rng.Float64(); p > limit; p *= h.rng.Float64() {
		n++
	}
	return n
}

// step moves the host on by one scrape and calls emit for each value.
func (h *host) step(second int64, emit func(target, template int, value float64)) {
	h.load = max(0.05, h.load+0.1*(1-h.load)+0.15*h.rng.NormFloat64())
	h.busy = h.factor * h.load * (1 + 0.4*math.Sin(2*math.Pi*float64(second)/86400+h.phase))
	for i, t := range h.targets {
		h.growth = 0
		for j := range t.templates {
			tpl := &t.templates[j]
			h.state[i][j] = h.next(t, i, j)
			value := tpl.fromUnits(h.state[i][j])
			if tpl.kind == kindSynth {
				value = h.synthetic(tpl)
			}
			emit(i, j, value)
		}
	}
	h.fresh = false
}

// next returns the next value of a series, in units.
func (h *host) next(t *target, i, j int) float64 {
	tpl, s := &t.templates[j], h.state[i][j]
	switch tpl.kind {
	case kindCounter:
		return s + h.counterStep(tpl)
	case kindIdleCPU: // sorts first; what it loses is what the other modes gain on average
		return s + max(0, cpuTicks-h.draw(min(cpuTicks, h.usedTicks(t, j))))
	case kindSum:
		n := math.Round(tpl.mean * h.busy * max(0, 1+0.3*h.rng.NormFloat64()))
		if !tpl.fraction {
			return s + n
		}
		n /= tpl.unit // kept as a float, which accumulates errors
		return (s/tpl.unit + n) * tpl.unit
	case kindBucket:
		if tpl.first {
			h.growth = 0
		}
		h.growth += h.draw(tpl.mean * h.busy)
		return s + h.growth
	case kindCount:
		return s + h.growth
	case kindGauge:
		return h.nextGauge(tpl, s, h.bases[i][j])
	}
	return s
}

func (h *host) counterStep(tpl *template) float64 {
	n := h.draw(tpl.mean * h.busy)
	switch tpl.name() {
	case "node_time_seconds":
		return math.Round(tpl.mean + h.rng.NormFloat64()*tpl.unit/1000)
	case "node_cpu_seconds_total":
		return min(n, cpuTicks/2)
	}
	return n
}

// usedTicks returns the mean time spent in the modes of a CPU that follow its idle mode.
func (h *host) usedTicks(t *target, idle int) float64 {
	used, of := 0.0, t.templates[idle].labels
	for _, tpl := range t.templates[idle+1:] {
		if tpl.labels[0] != of[0] || tpl.labels[1] != of[1] {
			break
		}
		used += tpl.mean * h.busy
	}
	return used
}

func (h *host) nextGauge(tpl *template, s, base float64) float64 {
	if h.rng.Float64() >= 0.8 {
		return s
	}
	s = math.Round(s + 0.05*(base-s) + tpl.sigma*h.rng.NormFloat64())
	if base >= 0 {
		s = max(0, s)
	}
	return s
}

// synthetic returns the values the scraper itself adds for each target.
func (h *host) synthetic(tpl *template) float64 {
	switch tpl.name() {
	case "up":
		return 1
	case "scrape_duration_seconds":
		return math.Round((0.02+0.005*h.rng.ExpFloat64())*1e9) / 1e9
	case "scrape_series_added":
		if !h.fresh {
			return 0
		}
	}
	return tpl.value
}
