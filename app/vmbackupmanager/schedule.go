package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"vmcluster/lib/backup"
)

// latest is the name of the backup that is sent from the disk.
const latest = "latest"

// The kinds of its copies.
const (
	hourly  = "hourly"
	daily   = "daily"
	weekly  = "weekly"
	monthly = "monthly"
)

// kinds returns the kinds of copies, the most frequent first.
func kinds() []string { return []string{hourly, daily, weekly, monthly} }

// keepAll is the number of backups to keep which lets retention leave a kind alone.
const keepAll = -1

// policy says when backups are made and which are kept. It knows no clock and no store.
type policy struct {
	makes     []string       // kinds of copies
	keep      map[string]int // how many of a kind, or keepAll
	interval  time.Duration  // between runs; 0: an hour, or a day from midnight to midnight if byDay
	byDay     bool
	zone      *time.Location // of days, weeks and months; hours are those of UTC, which come once each
	scheduled bool           // runs are made without being asked for
}

// slot returns the interval in which t lies. A run is due in each.
func (p *policy) slot(t time.Time) string {
	switch {
	case p.interval > 0:
		n, rest := t.UnixNano()/int64(p.interval), t.UnixNano()%int64(p.interval)
		if rest < 0 {
			n--
		}
		return strconv.FormatInt(n, 10)
	case p.byDay:
		return p.name(daily, t)
	}
	return p.name(hourly, t)
}

// name returns the name of the backup of a kind that was taken at t.
func (p *policy) name(kind string, t time.Time) string {
	local := t.In(p.zone)
	switch kind {
	case hourly:
		return hourly + "/" + t.UTC().Format(hourLayout)
	case daily:
		return daily + "/" + local.Format(dayLayout)
	case weekly:
		year, week := local.ISOWeek()
		return fmt.Sprintf("%s/%04d-%02d", weekly, year, week)
	case monthly:
		return monthly + "/" + local.Format(monthLayout)
	}
	return latest
}

const (
	hourLayout  = "2006-01-02:15"
	dayLayout   = "2006-01-02"
	monthLayout = "2006-01"
)

// kindOf returns the kind of a backup by its name; false if it is not the name of one.
func kindOf(name string) (string, bool) {
	if name == latest {
		return latest, true
	}
	kind, rest, _ := strings.Cut(name, "/")
	if kind == weekly {
		var year, week int
		_, err := fmt.Sscanf(rest, "%d-%d", &year, &week)
		return kind, err == nil && week >= 1 && week <= 53 && fmt.Sprintf("%04d-%02d", year, week) == rest
	}
	layout := map[string]string{hourly: hourLayout, daily: dayLayout, monthly: monthLayout}[kind]
	t, err := time.Parse(layout, rest)
	return kind, layout != "" && err == nil && t.Format(layout) == rest
}

// nameOf splits the key of an object below the destination.
func nameOf(key string) (name, rest string, ok bool) {
	parts := strings.SplitN(key, "/", 3)
	if parts[0] == latest && len(parts) > 1 {
		return latest, key[len(latest)+1:], true
	}
	if len(parts) < 3 {
		return "", "", false
	}
	name = parts[0] + "/" + parts[1]
	_, ok = kindOf(name)
	return name, parts[2], ok
}

// catalog is what there is, by name.
type catalog map[string]*backup.Found

func (c catalog) whole(name string) bool { return c[name] != nil && c[name].Complete }

// taken returns when the newest whole backup of a kind was taken; zero if there is none.
func (c catalog) taken(kind string) (newest time.Time) {
	for name, f := range c {
		if k, _ := kindOf(name); k == kind && f.Complete && f.CreatedAt.After(newest) {
			newest = f.CreatedAt
		}
	}
	return newest
}

// todo is what a run has to do.
type todo struct {
	send   bool      // latest
	at     time.Time // when latest is taken, or was
	copies []string  // of latest, which are not there
}

// plan returns what to do now. Asked means that somebody wants a backup, whatever the schedule says.
//
// A run is due when latest is not of the interval which the clock shows, also when it is of a later one: then the clock was wrong, or is. So a
// clock that jumps costs a run at most and never stops the schedule.
func (p *policy) plan(now time.Time, c catalog, asked bool) todo {
	d := todo{at: now}
	if c.whole(latest) {
		d.at = c[latest].CreatedAt
	}
	if asked || p.scheduled && (!c.whole(latest) || p.slot(d.at) != p.slot(now)) {
		d.send, d.at = true, now
	}
	if !d.send && !c.whole(latest) {
		return d
	}
	for _, kind := range p.makes {
		if name := p.name(kind, d.at); !c.whole(name) {
			d.copies = append(d.copies, name)
		}
	}
	return d
}

// expired returns which backups to delete: of every kind with a limit all but the newest, and what is left of others. Pinned ones stay.
func (p *policy) expired(c catalog, pinned []string) (names []string) {
	for _, kind := range kinds() {
		if keep := p.keep[kind]; keep != keepAll {
			names = append(names, p.expiredOf(kind, keep, c, pinned)...)
		}
	}
	return spareLast(names, c)
}

func (p *policy) expiredOf(kind string, keep int, c catalog, pinned []string) (names []string) {
	var whole []string
	for name, f := range c {
		switch k, _ := kindOf(name); {
		case k != kind:
		case f.Complete:
			whole = append(whole, name)
		default: // a copy which did not come to its end, or a deletion
			names = append(names, name)
		}
	}
	slices.Sort(whole)
	names = append(names, whole[:max(0, len(whole)-keep)]...)
	slices.Sort(names)
	return slices.DeleteFunc(names, func(name string) bool {
		return c[name].Locked || slices.Contains(pinned, name)
	})
}

// spareLast leaves the newest whole backup out of what is deleted if no other would stay.
func spareLast(names []string, c catalog) []string {
	var newest *backup.Found
	for name, f := range c {
		if !f.Complete {
			continue
		}
		if !slices.Contains(names, name) {
			return names
		}
		if newest == nil || cmp.Or(f.CreatedAt.Compare(newest.CreatedAt), strings.Compare(name, newest.Name)) > 0 {
			newest = f
		}
	}
	return slices.DeleteFunc(names, func(name string) bool { return newest != nil && name == newest.Name })
}

const (
	firstPause = 10 * time.Second
	maxPause   = 10 * time.Minute
)

// pause returns how long to wait after so many failures in a row.
func pause(failures int) time.Duration {
	if failures == 0 {
		return 0
	}
	return min(maxPause, firstPause<<min(failures-1, 10))
}
