"""The registered predictors and the store keep their contracts."""

import tempfile

import pytest

from preheat._predict import PREDICTORS
from preheat._store import SqliteStore
from preheat.testing import HistoryStoreContract, PredictorContract


@pytest.mark.parametrize("name", PREDICTORS)
class TestPredictors(PredictorContract):
    @pytest.fixture(autouse=True)
    def _choose(self, name):
        self.name = name

    def make_predictor(self):
        return PREDICTORS[self.name]


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
