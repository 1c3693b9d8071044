package partition

import (
	"fmt"
	"time"

	"vmcluster/lib/model"
)

// Month is a month in UTC: months since January of year 0. Log records name
// partitions by it.
type Month uint32

// LastMonth is the last month that has a name, December 9999.
const LastMonth Month = 10000*12 - 1

// MonthOf returns the month which holds t, in Unix milliseconds. T must not be before the year 1.
func MonthOf(t int64) Month {
	u := time.UnixMilli(t).UTC()
	return Month(u.Year()*12 + int(u.Month()) - 1)
}

// ParseMonth parses a name as returned by String.
func ParseMonth(name string) (Month, bool) {
	t, err := time.Parse("2006_01", name)
	if err != nil || t.Year() < 1 {
		return 0, false
	}
	return MonthOf(t.UnixMilli()), true
}

// Valid reports whether the month lies in the years 1 to 9999, which have names.
func (m Month) Valid() bool { return m >= 12 && m <= LastMonth }

// String returns the name of the month, YYYY_MM.
func (m Month) String() string { return fmt.Sprintf("%04d_%02d", m/12, m%12+1) }

// Range returns the first and last millisecond of the month.
func (m Month) Range() model.TimeRange {
	start := time.Date(int(m/12), time.Month(m%12+1), 1, 0, 0, 0, 0, time.UTC)
	return model.TimeRange{Min: start.UnixMilli(), Max: start.AddDate(0, 1, 0).UnixMilli() - 1}
}
