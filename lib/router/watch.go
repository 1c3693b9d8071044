package router

import "time"

// watchInterval is how often the router looks for nodes that are slow or hang.
const watchInterval = slowLag / 8

// watch is all pieces that are taken back when their nodes turn out to be slow or to hang. There is one timer for all of them, which runs while there
// are any: one for each write costs as much as the rest of a small write.
type watch struct {
	flying []*piece
	timer  *time.Timer // nil: there was never one
	runs   bool
}

// watchLocked makes a piece one to look after, where that makes a difference.
func (r *Router) watchLocked(p *piece) {
	p.slot = -1
	if !r.watches(p.set) && !r.watchesHanging(p.set) {
		return
	}
	w := &r.mu.watch
	p.slot = len(w.flying)
	w.flying = append(w.flying, p)
	switch {
	case w.runs:
	case w.timer == nil:
		w.timer = time.AfterFunc(watchInterval, r.look)
	default:
		w.timer.Reset(watchInterval)
	}
	w.runs = true
}

// forget takes a piece out which has its answer.
func (r *Router) forget(p *piece) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.slot < 0 {
		return
	}
	list := r.mu.watch.flying
	last := len(list) - 1
	list[p.slot] = list[last]
	list[p.slot].slot = p.slot
	list[last] = nil
	r.mu.watch.flying = list[:last]
}

// look ends the attempts at nodes that are slow or hang.
func (r *Router) look() {
	now := time.Now()
	rule := hangRule{copies: r.config.ReplicationFactor, after: r.config.HangTimeout}
	r.mu.Lock()
	defer r.mu.Unlock()
	w := &r.mu.watch
	for _, p := range w.flying {
		if p.slow || p.hangs {
			continue
		}
		p.slow = r.watches(p.set) && slow(p.set.states, p.node, p.set.window, now)
		p.hangs = !p.slow && r.watchesHanging(p.set) && rule.hangs(p.set.states, p.node, p.since, now)
		if p.slow || p.hangs {
			p.cancel()
		}
	}
	if w.runs = len(w.flying) > 0; w.runs {
		w.timer.Reset(watchInterval)
	}
}
