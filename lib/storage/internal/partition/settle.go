package partition

import (
	"vmcluster/lib/model"
)

// When samples were flushed is told by epochs: each head has one, and each part that of the youngest head it has samples of. The log holds samples of
// epochs after the settled one, and only those: after a crash it gives them back, although they are in parts already.

// MarkCut notes that what was taken so far is in the log before a segment that begins now, and will be in parts once all frozen heads are
// flushed. The caller holds the owner's flush lock exclusively and has frozen the head.
func (p *Partition) MarkCut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.cut = p.mu.epoch - 1
}

// Settle notes that the log before the segment of the last MarkCut is durably gone.
func (p *Partition) Settle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.settled = p.mu.cut
}

// unsettledIn returns the epoch of the youngest samples in r that the log may still hold, of parts and heads; false when
// there are none. Ranges of parts and heads are taken as a whole.
func (p *Partition) unsettledIn(r model.TimeRange) (epoch int64, found bool) {
	if r.Min > r.Max {
		return 0, false
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	if r.Overlaps(p.head.Load().TimeRange()) {
		return p.mu.epoch, true
	}
	for _, h := range p.mu.frozen {
		if r.Overlaps(h.TimeRange()) {
			return p.mu.epoch - 1, true
		}
	}
	epoch = -1
	for _, e := range p.mu.parts {
		if e.epoch > p.mu.settled && r.Overlaps(model.TimeRange{Min: e.MinTimestamp, Max: e.MaxTimestamp}) {
			epoch, found = max(epoch, e.epoch), true
		}
	}
	return epoch, found
}

// settledParts returns the epoch which is settled, and of the parts which merges may take those that are settled.
func (p *Partition) settledParts() (settled int64, parts []*entry) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, e := range p.mu.parts {
		if e.epoch <= p.mu.settled && !e.damaged.Load() {
			parts = append(parts, e)
		}
	}
	return p.mu.settled, parts
}
