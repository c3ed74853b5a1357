package s3api

import (
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"cairn"
	"cairn/iam"
	"cairn/object"
	"cairn/s3api/sigv4"
)

// route is how the matrix asks for one operation, and what an allowed request is answered.
type route struct {
	want   int    // status of the owner's request
	body   string // "" for none
	header string // "Name: value" lines
	query  string // beside the operation's own
	others int    // status for another user, if it is not 403
}

const (
	emptyTags = "<Tagging><TagSet></TagSet></Tagging>"
	retention = "<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>2099-01-01T00:00:00Z</RetainUntilDate></Retention>"
)

// routes has a line for every operation; TestAuthMatrix fails for one that has none.
var routes = map[string]route{
	"CreateMultipartUpload":   {want: 200},
	"CompleteMultipartUpload": {want: 400, body: "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>x</ETag></Part></CompleteMultipartUpload>"},
	"UploadPartCopy":          {want: 200, query: "partNumber=1", header: "X-Amz-Copy-Source: /{bucket}/k"},
	"UploadPart":              {want: 200, query: "partNumber=1", body: "part"},
	"ListParts":               {want: 200},
	"AbortMultipartUpload":    {want: 204},
	"GetObjectTagging":        {want: 200},
	"PutObjectTagging":        {want: 200, body: emptyTags},
	"DeleteObjectTagging":     {want: 204},
	"RenameObject":            {want: 200, header: "X-Amz-Rename-Source: second"},
	"GetObjectAttributes":     {want: 200, header: "X-Amz-Object-Attributes: ETag"},
	"GetObjectRetention":      {want: 400},
	"PutObjectRetention":      {want: 400, body: retention},
	"GetObjectLegalHold":      {want: 400},
	"PutObjectLegalHold":      {want: 400, body: "<LegalHold><Status>ON</Status></LegalHold>"},
	"GetObjectAcl":            {want: 200},
	"PutObjectAcl":            {want: 200, header: "X-Amz-Acl: private"},
	"GetObjectTorrent":        {want: 501},
	"RestoreObject":           {want: 501},
	"SelectObjectContent":     {want: 501},

	"GetObject":    {want: 200},
	"HeadObject":   {want: 200},
	"CopyObject":   {want: 200, header: "X-Amz-Copy-Source: /{bucket}/second"},
	"PutObject":    {want: 200, body: "new"},
	"DeleteObject": {want: 204},

	"GetBucketLocation":                           {want: 200},
	"GetBucketVersioning":                         {want: 200},
	"PutBucketVersioning":                         {want: 200, body: "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"},
	"GetBucketTagging":                            {want: 404},
	"PutBucketTagging":                            {want: 204, body: emptyTags},
	"DeleteBucketTagging":                         {want: 204},
	"GetBucketEncryption":                         {want: 404},
	"PutBucketEncryption":                         {want: 400, body: "<ServerSideEncryptionConfiguration/>"},
	"DeleteBucketEncryption":                      {want: 204},
	"ListObjectVersions":                          {want: 200},
	"ListMultipartUploads":                        {want: 200},
	"DeleteObjects":                               {want: 200, body: "<Delete><Object><Key>k</Key></Object></Delete>", others: 200},
	"GetObjectLockConfiguration":                  {want: 404},
	"PutObjectLockConfiguration":                  {want: 409, body: "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>"},
	"GetBucketLifecycleConfiguration":             {want: 404},
	"PutBucketLifecycleConfiguration":             {want: 400, body: "<LifecycleConfiguration/>"},
	"DeleteBucketLifecycle":                       {want: 204},
	"GetBucketPolicyStatus":                       {want: 200},
	"GetBucketPolicy":                             {want: 404},
	"PutBucketPolicy":                             {want: 400, body: "{}"},
	"DeleteBucketPolicy":                          {want: 204},
	"GetBucketAcl":                                {want: 200},
	"PutBucketAcl":                                {want: 200, header: "X-Amz-Acl: private"},
	"GetPublicAccessBlock":                        {want: 404},
	"PutPublicAccessBlock":                        {want: 200, body: "<PublicAccessBlockConfiguration/>"},
	"DeletePublicAccessBlock":                     {want: 204},
	"GetBucketOwnershipControls":                  {want: 200},
	"PutBucketOwnershipControls":                  {want: 400, body: "<OwnershipControls/>"},
	"DeleteBucketOwnershipControls":               {want: 204},
	"GetBucketCors":                               {want: 404},
	"PutBucketCors":                               {want: 400, body: "<CORSConfiguration/>"},
	"DeleteBucketCors":                            {want: 204},
	"GetBucketWebsite":                            {want: 404},
	"PutBucketWebsite":                            {want: 501},
	"DeleteBucketWebsite":                         {want: 204},
	"GetBucketReplication":                        {want: 404},
	"PutBucketReplication":                        {want: 501},
	"DeleteBucketReplication":                     {want: 204},
	"GetBucketAccelerateConfiguration":            {want: 200},
	"PutBucketAccelerateConfiguration":            {want: 501},
	"DeleteBucketAccelerateConfiguration":         {want: 204},
	"GetBucketRequestPayment":                     {want: 200},
	"PutBucketRequestPayment":                     {want: 501},
	"DeleteBucketRequestPayment":                  {want: 204},
	"GetBucketLogging":                            {want: 200},
	"PutBucketLogging":                            {want: 501},
	"DeleteBucketLogging":                         {want: 204},
	"GetBucketNotificationConfiguration":          {want: 200},
	"PutBucketNotificationConfiguration":          {body: "<NotificationConfiguration/>", want: 200},
	"GetBucketAnalyticsConfiguration":             {want: 200},
	"PutBucketAnalyticsConfiguration":             {want: 501},
	"DeleteBucketAnalyticsConfiguration":          {want: 204},
	"GetBucketInventoryConfiguration":             {want: 200},
	"PutBucketInventoryConfiguration":             {want: 501},
	"DeleteBucketInventoryConfiguration":          {want: 204},
	"GetBucketMetricsConfiguration":               {want: 200},
	"PutBucketMetricsConfiguration":               {want: 501},
	"DeleteBucketMetricsConfiguration":            {want: 204},
	"GetBucketIntelligentTieringConfiguration":    {want: 200},
	"PutBucketIntelligentTieringConfiguration":    {want: 501},
	"DeleteBucketIntelligentTieringConfiguration": {want: 204},
	"ListObjectsV2":                               {want: 200},
	"ListObjects":                                 {want: 200},
	"HeadBucket":                                  {want: 200},
	"CreateBucket":                                {want: 200, others: 409},
	"DeleteBucket":                                {want: 409},
	"ListBuckets":                                 {want: 200, others: 200},

	// These carry their credentials in their bodies: postform_test.go and sts_test.go have their cases.
	"PostObject":     {},
	"SecurityTokens": {},
}

// matrix is the state that the requests are made against.
type matrix struct {
	*accessRig
	session, expired iam.Session
	made             int
}

// bucket makes one of ann's with two objects and an upload.
func (m *matrix) bucket(t *testing.T) (name, upload string) {
	t.Helper()
	m.made++
	name = fmt.Sprintf("bucket-%d", m.made)
	if _, err := m.stack.Objects.CreateBucket(t.Context(), cairn.Bucket{Name: name, Owner: m.ids["ann"]}); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"k", "second"} {
		if _, err := m.stack.Objects.Put(t.Context(), object.Put{Bucket: name, Key: key, Owner: m.ids["ann"], Body: strings.NewReader("x"), Size: 1}); err != nil {
			t.Fatal(err)
		}
	}
	u, err := m.stack.Objects.CreateUpload(t.Context(), cairn.Upload{Bucket: name, Key: "k", Owner: m.ids["ann"]})
	if err != nil {
		t.Fatal(err)
	}
	return name, u.ID
}

// request is an operation's request before anybody signed it.
func (m *matrix) request(op *operation, c route, bucketName, upload string) req {
	q := req{method: op.method, body: c.body, path: map[level]string{service: "/", bucket: "/" + bucketName, object_: "/" + bucketName + "/k"}[op.level]}
	var params []string
	switch {
	case op.query == "uploadId":
		params = append(params, "uploadId="+upload)
	case op.query == "list-type":
		params = append(params, "list-type=2")
	case op.query != "":
		params = append(params, op.query+"=")
	}
	if c.query != "" {
		params = append(params, c.query)
	}
	if len(params) > 0 {
		q.path += "?" + strings.Join(params, "&")
	}
	for line := range strings.Lines(strings.ReplaceAll(c.header, "{bucket}", bucketName)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		q.header = append(q.header, name, value)
	}
	if c.body != "" {
		q.header = append(q.header, "Content-Md5", md5Of(c.body))
	}
	return q
}

// send writes a request whose body, if streamed, is aws-chunked.
func (m *matrix) send(t *testing.T, q req, kind authKind) answer {
	t.Helper()
	body := q.body
	q.key = kind.key
	q.secret, q.date = kind.secret, kind.date
	if kind.session != nil {
		q.key, q.secret = kind.session.AccessKey, kind.session.SecretKey
		q.header = append(q.header, "X-Amz-Security-Token", kind.session.Token)
	}
	switch {
	case kind.presigned:
		return m.sendURL(t, q, kind)
	case kind.payload == "":
		return m.do(q)
	}
	q.payload, q.noSize = kind.payload, true
	if q.payload == sigv4.UnsignedPayload {
		q.noSize = false
		return m.do(q)
	}
	q.header = append(q.header, "X-Amz-Decoded-Content-Length", fmt.Sprint(len(body)), "Content-Encoding", "aws-chunked")
	trailer := ""
	if kind.payload != sigv4.SignedChunks {
		trailer = "x-amz-checksum-crc32:" + base64String(sumOf(cairn.CRC32, []byte(body)))
		q.header = append(q.header, "X-Amz-Trailer", "x-amz-checksum-crc32")
	}
	chunks := []string{body}
	if body == "" {
		chunks = nil
	}
	q.defaults(m.addr)
	head, seed := m.head(q)
	if kind.forge {
		seed = sigv4.Seed{}
	}
	stream := chunked(t, q, seed, chunks, trailer)
	conn, br := m.dial()
	defer conn.Close()
	head = strings.Replace(head, "\r\n\r\n", fmt.Sprintf("\r\nContent-Length: %d\r\n\r\n", len(stream)), 1)
	if _, err := io.WriteString(conn, head+stream); err != nil {
		t.Fatal(err)
	}
	a, err := m.read(br, q.method)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// sendURL signs the query. Headers of the request become parameters, as presigning clients make them.
func (m *matrix) sendURL(t *testing.T, q req, kind authKind) answer {
	t.Helper()
	stamp := time.Now().UTC()
	if !kind.date.IsZero() {
		stamp = kind.date.UTC()
	}
	path, query, _ := strings.Cut(q.path, "?")
	v, err := url.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	var sent []string
	for i := 0; i < len(q.header); i += 2 {
		if strings.HasPrefix(q.header[i], "X-Amz-") {
			v.Set(strings.ToLower(q.header[i]), q.header[i+1])
		} else {
			sent = append(sent, q.header[i], q.header[i+1])
		}
	}
	if kind.session != nil {
		v.Del("x-amz-security-token")
		v.Set("X-Amz-Security-Token", kind.session.Token)
	}
	v.Set("X-Amz-Algorithm", "AWS4-HMAC-SHA256")
	v.Set("X-Amz-Credential", q.key+"/"+stamp.Format("20060102")+"/us-east-1/s3/aws4_request")
	v.Set("X-Amz-Date", stamp.Format("20060102T150405Z"))
	v.Set("X-Amz-Expires", "60")
	v.Set("X-Amz-SignedHeaders", "host")
	secret := q.secret
	if secret == "" {
		secret = testSecret
	}
	raw := strings.ReplaceAll(v.Encode(), "+", "%20")
	params, err := parseQuery(raw, nil)
	if err != nil {
		t.Fatal(err)
	}
	sig := sigv4.Presign(&sigv4.Message{Method: q.method, Path: path, Query: params, Host: m.addr}, secret, "us-east-1")
	return m.do(req{method: q.method, path: path + "?" + raw + "&X-Amz-Signature=" + sig, key: "-", header: sent, body: q.body})
}

// authKind is one way to come with a request.
type authKind struct {
	name      string
	key       string
	secret    string
	date      time.Time
	payload   string
	presigned bool
	forge     bool
	session   *iam.Session
	refused   []int // the statuses of a refusal; nil: the request is the owner's and allowed
	other     bool  // it is another user's
}

func (m *matrix) kinds() []authKind {
	old, ann := time.Now().Add(-time.Hour), "annKEY"
	kinds := []authKind{
		{name: "header", key: ann},
		{name: "presigned", key: ann, presigned: true},
		{name: "unsigned payload", key: ann, payload: sigv4.UnsignedPayload},
		{name: "signed chunks", key: ann, payload: sigv4.SignedChunks},
		{name: "signed chunks with trailer", key: ann, payload: sigv4.SignedTrailer},
		{name: "unsigned trailer", key: ann, payload: sigv4.UnsignedTrailer},
		{name: "session", session: &m.session},
		{name: "presigned session", session: &m.session, presigned: true},

		{name: "anonymous", key: "-", refused: []int{403}},
		{name: "forged", key: ann, secret: "another secret", refused: []int{403}},
		{name: "unknown key", key: "NOBODY", refused: []int{403}},
		{name: "old", key: ann, date: old, refused: []int{403}},
		{name: "expired URL", key: ann, date: old, presigned: true, refused: []int{403}},
		{name: "forged URL", key: ann, secret: "another secret", presigned: true, refused: []int{403}},
		{name: "expired session", session: &m.expired, refused: []int{400}},
		{name: "forged chunks", key: ann, payload: sigv4.SignedChunks, forge: true, refused: []int{403}},
		{name: "forged trailer", key: ann, payload: sigv4.SignedTrailer, forge: true, refused: []int{403}},
		{name: "other's header", key: "benKEY", refused: []int{403}, other: true},
		{name: "other's URL", key: "benKEY", presigned: true, refused: []int{403}, other: true},
	}
	for _, payload := range []string{sigv4.UnsignedPayload, sigv4.SignedChunks, sigv4.SignedTrailer, sigv4.UnsignedTrailer} {
		kinds = append(kinds, authKind{name: "other's " + payload, key: "benKEY", payload: payload, refused: []int{403}, other: true},
			authKind{name: "forged " + payload, key: ann, secret: "another secret", payload: payload, refused: []int{403}})
	}
	return kinds
}

// TestAuthMatrix asks for every operation with every kind of credentials. What is refused leaves nothing behind.
func TestAuthMatrix(t *testing.T) {
	m := &matrix{accessRig: newAccessRig(t, nil)}
	for life, to := range map[time.Duration]*iam.Session{time.Hour: &m.session, -time.Hour: &m.expired} {
		s, err := m.store.StartSession(iam.NewSession{User: "ann", AccessKey: "annKEY", Life: life})
		if err != nil {
			t.Fatal(err)
		}
		*to = s
	}
	shared, upload := m.bucket(t)
	seen := map[string]bool{}
	for _, op := range m.srv.operations() {
		c, ok := routes[op.name]
		if seen[op.name] = true; !ok {
			t.Errorf("%s has no line in the matrix", op.name)
			continue
		}
		if op.credentials {
			continue
		}
		for _, kind := range m.kinds() {
			m.ask(t, &op, c, kind, shared, upload)
		}
	}
	for name := range routes {
		if !seen[name] {
			t.Errorf("%s is in the matrix and no operation", name)
		}
	}
	if keys := m.keys(shared); !slices.Equal(keys, []string{"k", "second"}) {
		t.Errorf("refused requests changed the bucket: it holds %q", keys)
	}
	for _, key := range []string{"k", "second"} {
		if v, err := m.head1(shared, key); err != nil || v.Size != 1 {
			t.Errorf("%s: got %+v, %v", key, v, err)
		}
	}
	if row, err := m.stack.Objects.Bucket(t.Context(), shared); err != nil || len(row.Configs) != 0 || row.Version != cairn.VersioningOff {
		t.Errorf("refused requests changed the bucket: %+v, %v", row, err)
	}
}

func (m *matrix) ask(t *testing.T, op *operation, c route, kind authKind, shared, upload string) {
	t.Helper()
	name, want := shared, kind.refused
	if kind.payload != "" && c.body == "" && (want == nil || kind.forge) {
		return // there is no body to send in that form
	}
	if want == nil {
		name, upload = m.bucket(t)
		want = []int{c.want}
	} else if kind.other && c.others != 0 {
		want = []int{c.others}
	}
	a := m.send(t, m.request(op, c, name, upload), kind)
	if !slices.Contains(want, a.status) {
		t.Errorf("%s, %s: got %d %s, want %v: %.300s", op.name, kind.name, a.status, a.code, want, a.body)
	}
}
