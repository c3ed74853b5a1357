package durability

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"time"

	"cairn"
)

// History is what was seen of a store's drives since the first look: how long they ran, how often one was lost, and how
// long it took until its shards were whole again elsewhere. It is kept as JSON.
type History struct {
	Since   time.Time               `json:"since"`
	Seen    time.Time               `json:"seen"` // the last look
	Classes map[string]ClassHistory `json:"classes"`
	Lost    map[string]Loss         `json:"lost"` // by drive: those that are lost now
}

// ClassHistory is the history of the drives of a class.
type ClassHistory struct {
	DriveSeconds  float64 `json:"drive_seconds"`
	Failures      int     `json:"failures"`
	Repairs       int     `json:"repairs"`
	RepairSeconds float64 `json:"repair_seconds"`
}

// Loss is a drive that was lost.
type Loss struct {
	Class string    `json:"class"`
	At    time.Time `json:"at"`
	Whole bool      `json:"whole"` // all that it held is whole again
}

const (
	// lostAfter is how long a drive may be away before that counts as a failure: it is when repair begins elsewhere.
	lostAfter = 10 * time.Minute
	maxGap    = time.Hour // between two looks; what is longer was not seen
)

// Class names the class of a drive: the next power of two of its size, since drives of one purchase have one size.
func Class(d cairn.Drive) string {
	gib := uint64(max(d.TotalBytes, 1)+(1<<30)-1) >> 30
	n := uint64(1) << bits.Len64(gib-1)
	if n >= 1<<10 {
		return fmt.Sprintf("%d TiB", n>>10)
	}
	return fmt.Sprintf("%d GiB", n)
}

// Observe adds a look at the drives. waits tells that slots which a drive held wait to be rebuilt. What is retired at the
// very first look was lost before anybody watched, and counts for nothing; nor does a drive that was drained first.
func (h History) Observe(now time.Time, drives []cairn.Drive, waits func(cairn.DriveID) bool) History {
	first := h.Seen.IsZero()
	gap := now.Sub(h.Seen).Seconds()
	next := History{Since: h.Since, Seen: now, Classes: map[string]ClassHistory{}, Lost: map[string]Loss{}}
	if first {
		next.Since, gap = now, 0
	} else if gap < 0 || gap > maxGap.Seconds() {
		gap = 0
	}
	for name, c := range h.Classes {
		next.Classes[name] = c
	}
	for _, d := range drives {
		loss, known := h.Lost[d.ID.String()]
		switch lost := d.Retired || !d.State.Readable() && now.Sub(d.StateSince) >= lostAfter; {
		case !lost && known: // it came back with what it holds
			next.mended(loss, now)
		case !lost:
			c := next.Classes[Class(d)]
			if d.State.Readable() {
				c.DriveSeconds += gap
			}
			next.Classes[Class(d)] = c
		case !known && (first && d.Retired || d.Draining):
			next.Lost[d.ID.String()] = Loss{Class: Class(d), At: now, Whole: true}
		case !known:
			c := next.Classes[Class(d)]
			c.Failures++
			next.Classes[Class(d)] = c
			at := now
			if !d.StateSince.IsZero() && (!d.Retired || d.StateSince.After(h.Seen)) {
				at = d.StateSince
			}
			next.Lost[d.ID.String()] = Loss{Class: Class(d), At: at}
		case !loss.Whole && !waits(d.ID):
			next.mended(loss, now)
			loss.Whole = true
			fallthrough
		default:
			next.Lost[d.ID.String()] = loss
		}
	}
	return next
}

// mended counts the repair of a lost drive, unless it was counted.
func (h History) mended(l Loss, now time.Time) {
	if l.Whole {
		return
	}
	c := h.Classes[l.Class]
	c.Repairs++
	c.RepairSeconds += now.Sub(l.At).Seconds()
	h.Classes[l.Class] = c
}

// What is assumed of drives before anything was measured, and how much measuring it takes to outweigh that.
const (
	AssumedAFR        = 0.014 // share of drives that fail within a year
	AssumedMTTR       = 24 * time.Hour
	assumedDriveYears = 50
	assumedRepairs    = 1
	yearSeconds       = 365.25 * 24 * 3600
)

// Measured is what the history says of a class of drives, beside what is reckoned with: of a few drives in a few weeks
// neither no failure nor one says much, so an assumption counts like fifty years of a drive and one repair.
type Measured struct {
	Class      string  `json:"class"`
	DriveYears float64 `json:"drive_years"`
	Failures   int     `json:"failures"`
	// Lambda is the measured failure rate per drive and year, MTTR the measured mean time until a lost drive's shards were
	// whole again; 0 while there were none.
	Lambda float64       `json:"failures_per_drive_year"`
	MTTR   time.Duration `json:"repair_time_ns"`
	// UsedLambda and UsedMTTR are what the model is given.
	UsedLambda float64       `json:"used_failures_per_drive_year"`
	UsedMTTR   time.Duration `json:"used_repair_time_ns"`
}

// Measured sums up every class, and all drives together, as class "".
func (h History) Measured() (all Measured, classes []Measured) {
	var sum ClassHistory
	for name, c := range h.Classes {
		classes = append(classes, c.measured(name))
		sum.DriveSeconds += c.DriveSeconds
		sum.Failures += c.Failures
		sum.Repairs += c.Repairs
		sum.RepairSeconds += c.RepairSeconds
	}
	slices.SortFunc(classes, func(a, b Measured) int { return strings.Compare(a.Class, b.Class) })
	return sum.measured(""), classes
}

func (c ClassHistory) measured(name string) Measured {
	years := c.DriveSeconds / yearSeconds
	m := Measured{Class: name, DriveYears: years, Failures: c.Failures}
	if years > 0 {
		m.Lambda = float64(c.Failures) / years
	}
	if c.Repairs > 0 {
		m.MTTR = time.Duration(c.RepairSeconds / float64(c.Repairs) * float64(time.Second))
	}
	m.UsedLambda = (FailureRate(AssumedAFR)*assumedDriveYears + float64(c.Failures)) / (assumedDriveYears + years)
	m.UsedMTTR = time.Duration((AssumedMTTR.Seconds()*assumedRepairs + c.RepairSeconds) / float64(assumedRepairs+c.Repairs) * float64(time.Second))
	return m
}

// Outlook is what the model makes of a profile on drives as they were measured.
type Outlook struct {
	Profile cairn.Profile `json:"profile"`
	Read    float64       `json:"read_availability"` // of a stripe
	Write   float64       `json:"write_availability"`
	// MTTDLYears is the mean time until a stripe is lost, by independent failures; Correlated if failures are Correlation
	// times as likely after the first.
	MTTDLYears  float64 `json:"mttdl_years"`
	Correlated  float64 `json:"mttdl_years_correlated"`
	Correlation float64 `json:"correlation"`
}

// outlookCorrelation is the factor on failures once one has happened, for the figure beside the independent one.
const outlookCorrelation = 10

// Look models a profile. Latent errors are not measured, and so left out.
func Look(p cairn.Profile, m Measured) (Outlook, error) {
	code, err := ParseCode(p.String())
	if err != nil {
		return Outlook{}, err
	}
	r := Risks{Lambda: m.UsedLambda, MTTR: m.UsedMTTR.Seconds() / yearSeconds}
	up := Availability(r.Lambda, r.MTTR)
	o := Outlook{Profile: p, Read: code.Readable(up), Write: KOfN(p.WriteQuorum(), code.N, up), MTTDLYears: MTTDL(code, r),
		Correlation: outlookCorrelation}
	r.Correlation = outlookCorrelation
	o.Correlated = MTTDL(code, r)
	return o, nil
}

// Readable is the probability that a stripe decodes whose shards are each there with probability up.
func (c Code) Readable(up float64) float64 {
	sum := KOfN(c.N, c.N, up)
	for i, share := range c.Survives {
		lost := i + 1
		sum += share * (KOfN(c.N-lost, c.N, up) - KOfN(c.N-lost+1, c.N, up))
	}
	return min(sum, 1)
}
