"""The shipped predictor of histories and the store keep their contracts."""

import tempfile

from preheat._predict.decayed_frequency import predict
from preheat._store import SqliteStore
from preheat.testing import HistoryStoreContract, PredictorContract


class TestDecayedFrequency(PredictorContract):
    def make_predictor(self):
        return predict


class TestSqliteStore(HistoryStoreContract):
    def setup_method(self, _method):
        self.folder = tempfile.TemporaryDirectory()
        self.stores = []

    def teardown_method(self, _method):
        for store in self.stores:
            store.close()
        self.folder.cleanup()

    def make_store(self):
        self.stores.append(SqliteStore(self.folder.name))
        return self.stores[-1]
