package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"cairn"
	"cairn/iam"
	"cairn/meta"
)

// Journal keeps audit records. *meta.Store is one.
type Journal interface {
	AppendAudit(ctx context.Context, record []byte, keep uint64) (uint64, error)
	// Audit returns up to max records with numbers below before (0: from the newest on), newest first.
	Audit(ctx context.Context, before uint64, max int) ([]meta.AuditRow, error)
}

const (
	// AuditKept is how many audit records are kept.
	AuditKept = 20_000
	// maxAuditPage bounds one answer.
	maxAuditPage = 1000
	auditPage    = 100
	auditTimeout = 5 * time.Second
	// maxAuditText bounds a text in a record, in bytes.
	maxAuditText = 512
)

// AuditRecord tells who changed what, from where, with which result.
type AuditRecord struct {
	Number    uint64    `json:"number"`
	Time      time.Time `json:"time"`
	Who       string    `json:"who"`        // name of the user
	AccessKey string    `json:"access_key"` // that was used
	From      string    `json:"from"`       // address of the client
	Action    string    `json:"action"`
	Subject   string    `json:"subject,omitempty"` // method, path and query
	Result    string    `json:"result"`            // "ok", or why not
	RequestID string    `json:"request_id"`
}

// AuditPage is one page of the audit log, newest first.
type AuditPage struct {
	Records []AuditRecord `json:"records"`
	Next    uint64        `json:"next,omitempty"` // give it as before for the next page; 0: there is none
}

// audit records a change, or a try at one. The change has happened: a record that cannot be kept is logged instead.
func (s *Server) audit(r *http.Request, id iam.Identity, action, subject string, result error) {
	rec := AuditRecord{Time: time.Now().UTC(), Who: id.Name, AccessKey: cut(id.AccessKey), From: remoteHost(r), Action: action,
		Subject: cut(subject), Result: "ok", RequestID: requestID(r)}
	if result != nil {
		rec.Result = cut(result.Error())
	}
	s.cfg.Logger.Info("audit", "who", rec.Who, "access_key", rec.AccessKey, "from", rec.From, "action", action, "subject", rec.Subject,
		"result", rec.Result, "request_id", rec.RequestID)
	if s.cfg.Journal == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), auditTimeout)
	defer cancel()
	text, err := json.Marshal(rec)
	if err == nil {
		_, err = s.cfg.Journal.AppendAudit(ctx, text, AuditKept)
	}
	if err != nil {
		s.cfg.Logger.Error("an audit record could not be kept", "err", err, "request_id", rec.RequestID)
	}
}

func cut(text string) string {
	if len(text) > maxAuditText {
		text = text[:maxAuditText] + "…"
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

func (s *Server) auditRoutes(api register) {
	api(Route{Pattern: "GET /api/v1/audit", Action: "cairn:ListAudit", CLI: "audit ls", What: "List who changed what, newest first.",
		Query: []Parameter{{"before", "number of a record: list those before it"}, {"max", "records in the answer, up to 1000"},
			{"who", "only of this user"}, {"action", "only of this action, e.g. cairn:CreateUser"}, {"failed", "1: only what did not succeed"}},
		Gives: AuditPage{}}, s.listAudit)
}

// listAudit reads on until the page is full or the log has ended, so that a filter gives no empty pages.
func (s *Server) listAudit(_ http.ResponseWriter, r *http.Request) (any, error) {
	q := r.URL.Query()
	before, err := number(q.Get("before"), 0, 1<<62)
	if err != nil {
		return nil, &FieldError{"before", err.Error()}
	}
	max, err := number(q.Get("max"), auditPage, maxAuditPage)
	if err != nil || max == 0 {
		return nil, &FieldError{"max", fmt.Sprintf("want 1 to %d", maxAuditPage)}
	}
	page := AuditPage{Records: []AuditRecord{}}
	for {
		rows, err := s.cfg.Journal.Audit(r.Context(), before, maxAuditPage)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			if before = row.Number; uint64(len(page.Records)) == max {
				page.Next = before + 1
				return page, nil
			}
			var rec AuditRecord
			if err := json.Unmarshal(row.Record, &rec); err != nil {
				return nil, &cairn.Error{Op: "admin.audit", Subject: strconv.FormatUint(row.Number, 10), Err: fmt.Errorf("%w: %w", err, cairn.ErrCorrupt)}
			}
			rec.Number = row.Number
			if fits(rec.Who, q.Get("who")) && fits(rec.Action, q.Get("action")) && (q.Get("failed") == "" || rec.Result != "ok") {
				page.Records = append(page.Records, rec)
			}
		}
		if len(rows) < maxAuditPage || before <= 1 {
			return page, nil
		}
	}
}

func fits(value, want string) bool { return want == "" || value == want }

// number reads a number of a query, up to a limit.
func number(text string, fallback, limit uint64) (uint64, error) {
	if text == "" {
		return fallback, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n > limit {
		return 0, fmt.Errorf("want a number up to %d", limit)
	}
	return n, nil
}
