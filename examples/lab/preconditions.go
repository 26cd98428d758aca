package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
)

// enforcePreconditions answers requests whose generation preconditions don't hold, as the real service does. The
// emulator itself honours them on uploads only, and would let a delete or an update of a newer object pass.
func enforcePreconditions(emulator http.Handler) http.Handler {
	var mu sync.RWMutex
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		match, notMatch := query.Get("ifGenerationMatch"), query.Get("ifGenerationNotMatch")
		object, ok := strings.CutPrefix(r.URL.EscapedPath(), "/storage/v1/b/")
		if !ok || !strings.Contains(object, "/o/") || (match == "" && notMatch == "") {
			// Changes of objects wait while another request stands between its check and its own change.
			if r.Method != http.MethodGet && r.Method != http.MethodHead {
				mu.RLock()
				defer mu.RUnlock()
			}
			emulator.ServeHTTP(w, r)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		current := generationOf(emulator, r, object)
		switch {
		case match != "" && match != current:
			conditionNotMet(w, http.StatusPreconditionFailed, "ifGenerationMatch", match, current)
		case notMatch != "" && notMatch == current && (r.Method == http.MethodGet || r.Method == http.MethodHead):
			w.WriteHeader(http.StatusNotModified)
		case notMatch != "" && notMatch == current:
			conditionNotMet(w, http.StatusPreconditionFailed, "ifGenerationNotMatch", notMatch, current)
		default:
			emulator.ServeHTTP(w, r)
		}
	})
}

// generationOf asks the emulator for an object's present generation; 0 stands for an object that doesn't exist. The
// object of a copy or compose request is its source, which is what these preconditions can't mean there, so the
// destination is taken.
func generationOf(emulator http.Handler, r *http.Request, object string) string {
	if destination, ok := strings.CutSuffix(object, "/compose"); ok {
		object = destination
	}
	for _, verb := range []string{"/rewriteTo/b/", "/copyTo/b/"} {
		if _, destination, ok := strings.Cut(object, verb); ok {
			object = destination
		}
	}
	ask := httptest.NewRequestWithContext(r.Context(), http.MethodGet, "/storage/v1/b/"+object, nil)
	ask.Host = r.Host
	answer := httptest.NewRecorder()
	emulator.ServeHTTP(answer, ask)
	var attributes struct {
		Generation json.Number `json:"generation"`
	}
	if answer.Code != http.StatusOK || json.Unmarshal(answer.Body.Bytes(), &attributes) != nil {
		return "0"
	}
	return attributes.Generation.String()
}

func conditionNotMet(w http.ResponseWriter, status int, condition, wanted, current string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	message := fmt.Sprintf("At least one of the pre-conditions you specified did not hold: %s=%s, the generation is %s.", condition, wanted, current)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{
		"code": status, "message": message,
		"errors": []map[string]string{{"domain": "global", "reason": "conditionNotMet", "message": message}},
	}})
}
