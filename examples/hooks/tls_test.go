package hooks

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"net"
)

// askTLS returns the random bytes that a server put into a handshake, and the name of the key that its session ticket is
// encrypted with: with that key, the sessions can be read.
func askTLS(ctx context.Context, address string) (serverRandom, ticketKey string, err error) {
	tcp, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return "", "", err
	}
	defer tcp.Close()
	recorded, ticket := &recorder{Conn: tcp}, &ticketCache{}
	conn := tls.Client(recorded, &tls.Config{
		InsecureSkipVerify: true, // the certificate is not what this is about
		MaxVersion:         tls.VersionTLS12,
		ServerName:         "localhost",
		ClientSessionCache: ticket,
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		return "", "", err
	}
	// A record's header, a message's header and the version come first; OpenSSL's tickets begin with their key's name. The last
	// eight bytes of the random ones say that the client could do no better.
	if len(recorded.read) < 35 || len(ticket.bytes) < 16 {
		return "", "", errors.New("no server hello or no ticket")
	}
	return hex.EncodeToString(recorded.read[11:35]), hex.EncodeToString(ticket.bytes[:16]), nil
}

// recorder keeps what was read.
type recorder struct {
	net.Conn
	read []byte
}

func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.read = append(r.read, p[:n]...)
	return n, err
}

// ticketCache keeps the last session's ticket.
type ticketCache struct{ bytes []byte }

func (*ticketCache) Get(string) (*tls.ClientSessionState, bool) { return nil, false }

func (c *ticketCache) Put(_ string, session *tls.ClientSessionState) {
	if session != nil {
		c.bytes, _, _ = session.ResumptionState()
	}
}
