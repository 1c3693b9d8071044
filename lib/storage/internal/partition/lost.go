package partition

import (
	"fmt"
	"strings"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
)

// segmentPrefix is how package index names segments.
const segmentPrefix = "seg-"

// Lost returns an error of kind Corrupt when samples in r are known to have been stored and cannot be
// served, since a part or a segment of the index is set aside as damaged. Answers from r are partial then.
func (p *Partition) Lost(r model.TimeRange) error {
	if err := p.LostSeries(); err != nil {
		return err
	}
	for i := range p.lost {
		if lost := (model.TimeRange{Min: p.lost[i].MinTimestamp, Max: p.lost[i].MaxTimestamp}); lost.Overlaps(r) {
			return errkind.New(errkind.Corrupt, "cannot serve %d samples of %s: part %s is damaged and set aside; put a copy of it from a backup in its place and restart",
				p.lost[i].Rows, lost, p.partDir(p.lost[i].name))
		}
	}
	return nil
}

// LostSeries returns an error of kind Corrupt when series of the month cannot be found any more.
func (p *Partition) LostSeries() error {
	if p.lostSegment == "" {
		return nil
	}
	return errkind.New(errkind.Corrupt, "cannot find some series of %s: index segment %s is damaged and set aside; restore the directory %s from a backup", p.month, p.lostSegment, p.dir)
}

// findLostSegment looks for a segment of the index which this or an earlier start has set aside.
func (p *Partition) findLostSegment() error {
	entries, err := p.o.FS.ReadDir(p.indexDir())
	if err != nil {
		return fmt.Errorf("cannot open partition %s: %w", p.dir, err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name, segmentPrefix) && strings.HasSuffix(e.Name, corruptSuffix) {
			p.lostSegment = e.Name
			return nil
		}
	}
	return nil
}
